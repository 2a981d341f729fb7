import LinuxIO
import Netfilter
import TestSupport
import Testing

@testable import Confinement

struct WordTests {
  private static let words: [Word] =
    Obstacle.Step.allCases.map { .failed($0, .notPermitted) } + [
      .prepared, .sockets, .socketSupply, .ready, .start,
      .rulesFailed(.notPermitted), .rulesFailed(.heldByAnother(portID: 0)),
      .rulesFailed(.unsupported(feature: "the tproxy statement", .noEntry)),
      .rulesFailed(.failed(operation: "", Errno(rawValue: 0x1234_5678))),
      .notExecuted(.accessDenied), .install(refusesDatagrams: true),
      .install(refusesDatagrams: false),
    ]

  @Test func comeBack() {
    for word in Self.words {
      #expect(Word(word.bytes) == word)
      #expect(word.bytes.count <= DescriptorLine.maximumBytes)
    }
  }

  /// What no word is gives none, and nothing traps.
  @Test func anyBytesAreRead() {
    #expect(Word([]) == nil)
    #expect(Word([200]) == nil)
    #expect(Word([1, 200]) == nil)
    var generator = SplitMix(seed: 5)
    for _ in 0..<20_000 {
      guard let word = Self.words.randomElement(using: &generator) else { return }
      let bytes = mutated(word.bytes, using: &generator) { .random(in: 0...255, using: &$0) }
      if let word = Word(bytes) { #expect(Word(word.bytes) == word) }
    }
  }
}
