import DNS
import TestSupport
import Testing

private let pointerToQuestion: [UInt8] = [0xC0, 12]
private let v4: [UInt8] = [192, 0, 2, 7]
private let v6: [UInt8] = [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]

/// An answer to a question for `www.example`.
private func answer(
  flags: Int = answering, to questions: [[UInt8]] = [question("www.example")], _ records: [UInt8]...
) -> [UInt8] { message(flags: flags, questions: questions, answers: records) }

private func alias(of owner: [UInt8] = pointerToQuestion, _ name: [UInt8]) -> [UInt8] {
  record(owner, type: 5, data: name)
}

private func address(_ owner: [UInt8] = pointerToQuestion, _ last: UInt8 = 7) -> [UInt8] {
  record(owner, data: [192, 0, 2, last])
}

private func read(_ message: [UInt8]) -> NamedAddresses? { NamedAddresses(message.span) }

struct NamedAddressesTests {
  typealias Address = NamedAddresses.Address

  static let first = Address.v4(0xC000_0207)
  static let second = Address.v4(0xC000_0208)
  static let long = String(repeating: "abcdefg.", count: 31) + "abcde"

  @Test(arguments: [
    (answer(address()), [first]),
    (answer(address(), address(pointerToQuestion, 8)), [first, second]),
    (
      answer(record(pointerToQuestion, type: 28, data: v6)),
      [.v6(high: 0x2001_0DB8_0000_0000, low: 9)]
    ),
    // The owner in full, in another case, or half of it.
    (answer(address(wire("www.example"))), [first]),
    (answer(address(wire("WWW.eXample"))), [first]),
    (answer(address([3, 0x77, 0x77, 0x77, 0xC0, 16])), [first]),
    // Aliases; the last record's owner points into the data of the alias.
    (answer(alias(wire("a.example")), address(wire("a.example"))), [first]),
    (
      answer(
        alias(wire("a.example")), alias(of: wire("a.example"), [1, 0x62, 0xC0, 16]),
        address(wire("b.example"))), [first]
    ),
    (answer(alias([1, 0x61, 0xC0, 16]), address([0xC0, 12 + 17 + 12])), [first]),
    // Records that say something else: of other names, types and classes, and signatures.
    (answer(address(wire("other.example"), 8), address()), [first]),
    (answer(record(pointerToQuestion, type: 46, data: [1, 2, 3]), address()), [first]),
    (answer(address(), pointerToQuestion + wire(1) + wire(3) + [0, 0, 0, 0, 0, 0]), [first]),
    // Cut by the server between two records.
    (answer(flags: 0x8380, address()), [first]),
    // What follows the records that are looked at.
    (answer(address()) + [0xFF], [first]),
  ])
  func reads(_ message: [UInt8], addresses: [Address]) throws {
    let answer = try #require(read(message))
    #expect(answer.name == "www.example")
    #expect(answer.addresses == addresses)
  }

  @Test(arguments: [
    [], Array(answer(address())[..<11]),
    // A query, an update, an error, no question, two of them, another class.
    answer(flags: recursive, address()), answer(flags: 0xA800, address()),
    answer(flags: 0x8183, address()), answer(to: [], address(wire("www.example"))),
    answer(to: [question("www.example"), question("www.example")], address()),
    answer(to: [wire("www.example") + wire(1) + wire(3)], address()),
    // Nothing about the name that was asked for.
    answer(), answer(alias(wire("a.example"))), answer(address(wire("a.example"))),
    answer(address(wire("a.example")), alias(wire("a.example"))),
    // Addresses of a wrong length, and an alias that is not all of its data.
    answer(record(pointerToQuestion, data: [192, 0, 2])),
    answer(record(pointerToQuestion, data: v6)),
    answer(record(pointerToQuestion, type: 28, data: v4)),
    answer(alias(wire("a.example") + [0]), address()),
    answer(alias([1]), address()),
    // Cut in the midst of a record; one is promised that is not there.
    Array(answer(address()).dropLast()), Array(answer(address(), address()).dropLast(16)),
    // Pointers to themselves, forward, into the header, to each other, past the end, cut, and labels of
    // unknown kinds.
    answer(address([0xC0, 12 + 17])), answer(address([0xC0, 12 + 17 + 16]), address()),
    answer(address([0xC0, 0])), answer(address([1, 0x61, 0xC0, 12 + 17]), address()),
    answer(address([0xFF, 0xFF])), answer() + [0xC0], answer(address([0x40, 0])),
    answer(address([0x80, 0])),
    // A name of more than 255 bytes, by a pointer.
    answer(to: [question(long)], address([1, 0x61, 0xC0, 12])),
  ])
  func findsNothing(_ message: [UInt8]) { #expect(read(message) == nil) }

  @Test(arguments: [
    ("", "."), ("WWW.Example", "www.example"), ("_x-1.example", "_x-1.example"),
    ("a b", #"a\032b"#), ("a\u{1B}[0m\"\\", #"a\027\0910m\034\092"#), ("bücher", #"b\195\188cher"#),
    (long, long),
  ])
  func writesNames(_ name: String, written: String) {
    #expect(read(answer(to: [question(name)], address()))?.name == written)
  }

  /// A dot in a label is none between two.
  @Test func dotsAreEscaped() {
    let asked = [3, 0x61, 0x2E, 0x62, 0] + wire(1) + wire(1)
    #expect(read(answer(to: [asked], address()))?.name == #"a\046b"#)
  }

  /// A name of 127 labels, each behind its own pointer, is the longest way there is.
  @Test func pointersAreBounded() {
    for labels in [126, 127, 128, 4000] {
      var bytes = message(flags: answering, questions: [question("www.example")])
      bytes[7] = 2
      // In the data of a record that means nothing: a root, and pointers, each to the one before.
      var data: [UInt8] = [0]
      let start = bytes.count + 1 + 10
      for index in 0..<labels { data += wire(0xC000 | start + max(0, 2 * index - 1)) }
      bytes += record([0], type: 99, data: data)
      let last = start + data.count - 2
      bytes += address(wire(0xC000 | last))
      // The owner is the root, of which nobody asked: readable or not, it names nothing.
      #expect(read(bytes) == nil)
      bytes[7] = 3
      bytes += address()
      #expect((read(bytes) != nil) == (labels < 127))
    }
  }

  @Test func recordsAndAliasesAreBounded() {
    let most = NamedAddresses.maximumRecords
    let many = message(
      flags: answering, questions: [question("www.example")],
      answers: Array(repeating: address(), count: most + 1))
    #expect(read(many)?.addresses.count == most)
    for aliases in [15, 16] {
      let names = (0...aliases).map { $0 == 0 ? wire("www.example") : wire("a\($0).example") }
      let chain = zip(names, names.dropFirst()).map { alias(of: $0, $1) }
      let bytes = message(
        flags: answering, questions: [question("www.example")],
        answers: chain + [address(names[aliases])])
      #expect((read(bytes) != nil) == (aliases < NamedAddresses.maximumAliases))
    }
  }

  // MARK: Random input

  private func telling(using generator: inout SplitMix) -> UInt8 {
    let meaningful: [UInt8] = [
      0, 0, 1, 1, 2, 4, 5, 12, 16, 28, 29, 41, 0x3F, 0x40, 0x80, 0xC0, 0xC0,
    ]
    let index = Int.random(in: 0..<meaningful.count + 3, using: &generator)
    return index < meaningful.count
      ? meaningful[index] : UInt8.random(in: 0...255, using: &generator)
  }

  /// Damaged answers, and ones whose parts fit together by chance: nothing traps, and all agrees with a
  /// reader that is slow.
  @Test(arguments: 0..<6)
  func agreesWithTheSlowReader(seed: UInt64) {
    var generator = SplitMix(seed: 700 + seed)
    let names: [[UInt8]] = [
      pointerToQuestion, wire("www.example"), wire("a.example"), [1, 0x61, 0xC0, 16], [0xC0, 16],
      [0xC0, 41], [0],
    ]
    var found = 0
    for _ in 0..<8000 {
      let records = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
        let owner = names[Int.random(in: names.indices, using: &generator)]
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: return alias(of: owner, names[Int.random(in: names.indices, using: &generator)])
        case 1: return record(owner, type: 28, data: v6)
        default: return record(owner, data: v4)
        }
      }
      var bytes = message(
        flags: answering, questions: [question("www.example")], answers: records)
      bytes = mutated(bytes, using: &generator, telling)
      let answer = read(bytes)
      #expect(answer?.addresses == SlowAnswer(bytes).addresses)
      if answer != nil { found += 1 }
    }
    #expect(found > 600)
  }

  @Test(arguments: 0..<4)
  func anyBytes(seed: UInt64) {
    var generator = SplitMix(seed: 800 + seed)
    for _ in 0..<3000 {
      let count = Int.random(in: 0...80, using: &generator)
      var bytes = (0..<count).map { _ in telling(using: &generator) }
      if count > 7 { bytes.replaceSubrange(2..<7, with: [0x80, 0, 0, 1, 0]) }
      #expect(read(bytes)?.addresses == SlowAnswer(bytes).addresses)
    }
  }
}
