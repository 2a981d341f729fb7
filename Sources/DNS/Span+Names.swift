/// Reading the names of a message, compression pointers followed (RFC 1035, section 4.1.4).
extension Span where Element == UInt8 {
  /// The name that begins at `start`, and where it ends there; nil where the message ends too early or
  /// breaks the format.
  ///
  /// A pointer must lead to before everything of the name that has been read, which is where earlier
  /// names are, so that there is nothing to go round in.
  func name(at start: Int) -> (name: [UInt8], end: Int)? {
    var name: [UInt8] = []
    var end: Int?
    var (offset, limit) = (start, start)
    var jumps = 0
    while offset < count {
      let length = self[offset]
      switch length & Name.labelKind {
      case Name.label:
        let next = offset + 1 + Int(length)
        guard next <= count, name.count + next - offset <= Name.maximumBytes else { return nil }
        // A label's length is below every letter.
        for index in offset..<next { name.append(self[index].lowercased) }
        if length == 0 { return (name, end ?? next) }
        offset = next
      case Name.pointer:
        guard offset + Name.pointerBytes <= count, jumps < Name.maximumJumps else { return nil }
        let target = Int(integer(at: offset) & Name.target)
        guard (Header.bytes..<limit).contains(target) else { return nil }
        end = end ?? offset + Name.pointerBytes
        (offset, limit) = (target, target)
        jumps += 1
      default:
        return nil
      }
    }
    return nil
  }
}

extension String {
  /// A name in wire form as it is written (RFC 1035, section 5.1): whatever is neither a letter, a digit,
  /// `-` nor `_` as `\DDD`, so that it can be shown anywhere.
  init(domainName name: [UInt8]) {
    self = ""
    var rest = name[...]
    while let length = rest.popFirst(), length > 0 {
      if !isEmpty { append(".") }
      for byte in rest.prefix(Int(length)) {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F:
          unicodeScalars.append(Unicode.Scalar(byte))
        default:
          let digits = String(byte)
          append("\\" + String(repeating: "0", count: 3 - digits.count) + digits)
        }
      }
      rest = rest.dropFirst(Int(length))
    }
    if isEmpty { append(".") }
  }
}
