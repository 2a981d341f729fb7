import DNS

/// The addresses that an answer gives for what was asked, read with names as lists of labels: slow, and
/// obviously right. For messages that stay below every bound.
struct SlowAnswer {
  private let message: [UInt8]
  private(set) var addresses: [NamedAddresses.Address]?

  init(_ message: [UInt8]) {
    self.message = message
    guard message.count >= 12, message[2] >> 3 == 0x10, message[3] & 15 == 0,
      let questions = SlowReader(message).questions, questions.count == 1,
      questions[0].suffix(2) == [0, 1], let asked = labels(at: 12, below: 12)
    else { return }
    var names = [asked]
    var found: [NamedAddresses.Address] = []
    var offset = 12 + questions[0].count
    for _ in 0..<number(at: 6) {
      guard let owner = labels(at: offset, below: offset), message.count >= end(of: offset) + 10
      else { return }
      let fixed = end(of: offset)
      offset = fixed + 10 + number(at: fixed + 8)
      guard offset <= message.count else { return }
      let data = Array(message[(fixed + 10)..<offset])
      guard names.contains(owner), number(at: fixed + 2) == 1 else { continue }
      switch number(at: fixed) {
      case 1:
        guard data.count == 4 else { return }
        found.append(.v4(data.reduce(0) { $0 << 8 | UInt32($1) }))
      case 28:
        guard data.count == 16 else { return }
        let halves = [data[..<8], data[8...]].map { $0.reduce(0) { $0 << 8 | UInt64($1) } }
        found.append(.v6(high: halves[0], low: halves[1]))
      case 5:
        guard let alias = labels(at: fixed + 10, below: fixed + 10), end(of: fixed + 10) == offset
        else { return }
        names.append(alias)
      default: continue
      }
    }
    addresses = found.isEmpty ? nil : found
  }

  private func number(at offset: Int) -> Int {
    Int(message[offset]) << 8 | Int(message[offset + 1])
  }

  /// The labels from `offset` on in lower case; pointers lead to before `limit`, and then to before there.
  private func labels(at offset: Int, below limit: Int) -> [[UInt8]]? {
    guard offset < message.count else { return nil }
    let length = Int(message[offset])
    let labels: [[UInt8]]?
    switch length {
    case 0: labels = []
    case 1..<64:
      guard offset + 1 + length <= message.count else { return nil }
      let label = message[(offset + 1)...].prefix(length).map { byte in
        (0x41...0x5A).contains(byte) ? byte + 0x20 : byte
      }
      labels = self.labels(at: offset + 1 + length, below: limit).map { [label] + $0 }
    case 192...:
      guard offset + 2 <= message.count else { return nil }
      let target = number(at: offset) - 0xC000
      labels = target >= 12 && target < limit ? self.labels(at: target, below: target) : nil
    default: labels = nil
    }
    guard let labels, labels.reduce(1, { $0 + $1.count + 1 }) <= 255 else { return nil }
    return labels
  }

  /// Where the labels of a name that can be read end in their place.
  private func end(of offset: Int) -> Int {
    let length = Int(message[offset])
    if length == 0 { return offset + 1 }
    return length >= 192 ? offset + 2 : end(of: offset + 1 + length)
  }
}
