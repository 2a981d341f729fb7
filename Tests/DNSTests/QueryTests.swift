import DNS
import Testing

struct QueryTests {
  private static let asked = question("www.example.com")
  private static let longest = String(repeating: "abcdefg.", count: 31) + "abcde"

  // MARK: What is a query

  @Test(arguments: [
    message(flags: recursive, questions: [asked]),
    message(flags: recursive, questions: [question("")]),
    message(flags: recursive, questions: [question(String(repeating: "x", count: 63))]),
    message(flags: recursive, questions: [question(longest)]),
    message(flags: recursive, questions: [asked, asked]),
    message(flags: recursive),
    message(flags: 0x2800, questions: [asked], authorities: [record(data: [1, 2, 3, 4])]),
    message(flags: recursive, questions: [asked]) + [0xFF],
    message(flags: recursive, questions: [asked], additionals: [[0xC0]]),
  ])
  func isTaken(_ bytes: [UInt8]) throws {
    let query = try #require(Query(bytes))
    #expect(query.message == bytes)
    #expect(query.id == 0x1234)
    #expect(query.acceptedBytes == 512)
  }

  @Test(arguments: [
    [],
    Array(message(flags: recursive)[..<11]),
    message(flags: answering, questions: [asked]),
    Array(message(flags: recursive, questions: [asked]).dropLast()),
    // A name without an end, one that is compressed, unknown kinds of labels, one that is too long.
    message(flags: recursive, questions: [[3, 0x77, 0x77]]),
    message(flags: recursive, questions: [[0xC0, 0x0C] + wire(1) + wire(1)]),
    message(flags: recursive, questions: [[1, 0x77, 0xC0, 0x0C] + wire(1) + wire(1)]),
    message(flags: recursive, questions: [[0x40, 0] + wire(1) + wire(1)]),
    message(flags: recursive, questions: [[0x80, 0] + wire(1) + wire(1)]),
    message(flags: recursive, questions: [question(longest + "f")]),
    message(flags: recursive, questions: Array(repeating: asked, count: 3400)),
    [0, 1, 1, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0] + asked,
  ])
  func isNotTaken(_ bytes: [UInt8]) { #expect(Query(bytes) == nil) }

  // MARK: What the client accepts

  @Test(arguments: [
    (0, 512), (511, 512), (512, 512), (513, 513), (1232, 1232), (4096, 4096), (65_535, 65_507),
  ])
  func acceptsWhatItSays(said: Int, accepted: Int) {
    #expect(query(accepting: said).acceptedBytes == accepted)
  }

  @Test(arguments: [
    // Behind other records, compressed names and signatures among them.
    (
      message(
        flags: recursive, questions: [asked], answers: [record([0xC0, 0x0C], data: [1])],
        authorities: [record(data: [])],
        additionals: [record([1, 0x61, 0xC0, 0x0C], data: [2, 3]), options(accepting: 1400)]), 1400
    ),
    // The first of two.
    (
      message(
        flags: recursive, questions: [asked],
        additionals: [options(accepting: 700), options(accepting: 800)]), 700
    ),
    // In the wrong section, of a name, another type, cut off, more data said than there is.
    (message(flags: recursive, questions: [asked], answers: [options(accepting: 700)]), 512),
    (
      message(
        flags: recursive, questions: [asked], additionals: [[1, 0x61] + options(accepting: 700)]),
      512
    ),
    (message(flags: recursive, questions: [asked], additionals: [record([0], data: [])]), 512),
    (
      Array(
        message(flags: recursive, questions: [asked], additionals: [options(accepting: 700)])
          .dropLast()), 512
    ),
    (
      Array(
        message(
          flags: recursive, questions: [asked],
          additionals: [options(accepting: 700, data: [1, 2])]
        ).dropLast()), 512
    ),
  ])
  func findsTheOptionRecord(_ bytes: [UInt8], accepted: Int) throws {
    #expect(try #require(Query(bytes)).acceptedBytes == accepted)
  }

  // MARK: Answers

  @Test(arguments: [
    message(flags: answering, questions: [asked], answers: [record(data: [1, 2, 3, 4])]),
    message(flags: answering, questions: [question("WWW.exAMple.com")]),
    message(flags: 0x8182),
    message(id: 7, flags: answering, questions: [asked]),
    // The rest is the client's to judge.
    message(flags: answering, questions: [asked]) + [1, 2, 3],
  ])
  func isAnswered(by answer: [UInt8]) { #expect(query("www.Example.com").isAnswered(by: answer)) }

  @Test(arguments: [
    [], Array(message(flags: answering)[..<11]),
    message(flags: recursive, questions: [asked]),
    message(flags: answering, questions: [question("www.example.org")]),
    message(flags: answering, questions: [question("www.example")]),
    message(flags: answering, questions: [question("www.example.com.org")]),
    message(flags: answering, questions: [question("www.example.com", type: 28)]),
    message(flags: answering, questions: [asked, asked]),
    Array(message(flags: answering, questions: [asked]).dropLast()),
  ])
  func isNotAnswered(by answer: [UInt8]) {
    #expect(!query("www.Example.com").isAnswered(by: answer))
  }

  /// HTTPS is type 65, which is also an A; 97 is an a.
  @Test func typesHaveNoCase() {
    let answer = message(flags: answering, questions: [question("www.example.com", type: 97)])
    #expect(!query(type: 65).isAnswered(by: answer))
    #expect(query(type: 97).isAnswered(by: answer))
  }

  // MARK: Truncation

  private static let filler = (0..<100).map { record(data: [1, 2, 3, UInt8($0)]) }

  @Test func fittingAnswerIsLeftAsItIs() {
    let answer = message(flags: answering, questions: [Self.asked], answers: [record(data: [1])])
    let (fitting, isTruncated) = query(accepting: answer.count).fitting(answer)
    #expect(fitting == answer)
    #expect(!isTruncated)
    let padded = answer + [UInt8](repeating: 0, count: 600 - answer.count)
    #expect(!query(accepting: 600).fitting(padded).isTruncated)
    #expect(query(accepting: 599).fitting(padded).isTruncated)
  }

  /// The header with TC, the question, and the OPT record with its options.
  @Test func largeAnswerIsTruncated() {
    let opt = options(accepting: 1232, flags: 0x80, data: [0, 10, 0, 2, 8, 9])
    let answer = message(
      flags: answering | 0x0400, questions: [Self.asked], answers: Self.filler,
      authorities: [record(data: [])], additionals: [record([0xC0, 0x0C], data: [1]), opt])
    let (fitting, isTruncated) = query(accepting: 1232).fitting(answer)
    #expect(isTruncated)
    #expect(
      fitting
        == message(flags: answering | 0x0600, questions: [Self.asked], additionals: [opt]))
  }

  @Test func answerWithoutOptionsIsTruncated() {
    let answer = message(flags: answering, questions: [Self.asked], answers: Self.filler)
    let (fitting, _) = query().fitting(answer)
    #expect(fitting == message(flags: answering | 0x0200, questions: [Self.asked]))
  }

  /// Options that do not fit are left out, not the record.
  @Test func largeOptionsAreLeftOut() {
    let opt = options(accepting: 1232, data: [UInt8](repeating: 7, count: 480))
    let answer = message(flags: answering, questions: [Self.asked], additionals: [opt])
    let (fitting, _) = query().fitting(answer)
    #expect(
      fitting
        == message(
          flags: answering | 0x0200, questions: [Self.asked],
          additionals: [options(accepting: 1232)]))
  }

  /// Questions that do not fit, or cannot be read, are left out too.
  @Test func onlyTheHeaderIsLeft() {
    let long = question(Self.longest)
    let opt = options(accepting: 700)
    let many = message(flags: answering, questions: [long, long, long], additionals: [opt])
    #expect(
      query().fitting(many).message == message(flags: answering | 0x0200, additionals: [opt]))
    let broken = message(
      flags: answering, questions: [[0xC0]], answers: [[UInt8](repeating: 0xFF, count: 600)])
    #expect(query().fitting(broken).message == message(flags: answering | 0x0200))
    let none = message(flags: answering, answers: Self.filler)
    #expect(query().fitting(none).message == message(flags: answering | 0x0200))
  }

  // MARK: SERVFAIL

  @Test(arguments: [
    (0x0000, 0x8082), (0x0100, 0x8182), (0x0110, 0x8192), (0x0120, 0x8182), (0x7F7F, 0xF992),
    (0x2800, 0xA882),
  ])
  func serverFailureRepeatsFlags(asked: Int, answered: Int) throws {
    let question = Self.asked
    let query = try #require(
      Query(
        message(
          id: 0xABCD, flags: asked, questions: [question], answers: [record(data: [1])],
          authorities: [record(data: [])])))
    #expect(
      query.serverFailure == message(id: 0xABCD, flags: answered, questions: [question]))
    #expect(query.isAnswered(by: query.serverFailure))
  }

  @Test(arguments: [(0x00, 0x00), (0x80, 0x80), (0xFF, 0x80)] as [(UInt8, UInt8)])
  func serverFailureSpeaksEDNS(asked: UInt8, answered: UInt8) throws {
    let query = try #require(
      Query(
        message(
          flags: recursive, questions: [Self.asked],
          additionals: [options(accepting: 4096, flags: asked, data: [1, 2, 3])])))
    #expect(
      query.serverFailure
        == message(
          flags: 0x8182, questions: [Self.asked],
          additionals: [options(accepting: 512, flags: answered)]))
  }
}
