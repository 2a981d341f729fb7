internal import SOCKS

/// The input is a stream of messages, read one after the other: what a head is, is known at a certain byte,
/// not before, and for good; and a head that has been read is written as the same.
func fuzz(_ input: Span<UInt8>) {
  var start = 0
  while start < input.count, let head = head(of: input.extracting(start...)) {
    switch head {
    case .abort:
      precondition(input[start] == 1 && input[start + 1] == 0xFF, "aborts for no reason")
      start += 2
    case .token(let purpose, let count):
      precondition((0...SecurityMessage.maximumTokenBytes).contains(count), "an endless token")
      var written: [UInt8] = []
      SecurityMessage.encodeHead(purpose, count: count, into: &written)
      precondition(written.count == SecurityMessage.headBytes, "a head of another size")
      for (index, byte) in written.enumerated() {
        precondition(byte == input[start + index], "encodes to another head")
      }
      start += written.count + count
    }
  }
}

/// The head that `bytes` begin with; nil where there is none, or not all of it.
private func head(of bytes: Span<UInt8>) -> SecurityMessage? {
  var known: Result<SecurityMessage, Violation>?
  for count in 0...min(bytes.count, 8) {
    let found = result(of: bytes.extracting(first: count))
    precondition(known == nil || found == known, "changes its mind")
    known = found
  }
  precondition(known != nil || bytes.count < SecurityMessage.headBytes, "does not know a head")
  precondition(result(of: bytes) == known, "minds what follows")
  return try? known?.get()
}

private func result(of bytes: Span<UInt8>) -> Result<SecurityMessage, Violation>? {
  do throws(Violation) {
    return try SecurityMessage.decode(from: bytes).map { .success($0) }
  } catch {
    return .failure(error)
  }
}
