import DNS
import TestSupport
import Testing

/// Everything that comes of the pieces, each given whole to the reassembler.
private func messages(in pieces: [[UInt8]]) -> [[UInt8]] {
  var reassembler = MessageReassembler()
  var messages: [[UInt8]] = []
  for piece in pieces {
    var consumed = 0
    while let message = reassembler.next(from: piece.span, &consumed) { messages.append(message) }
    precondition(consumed == piece.count, "left bytes and asked for more")
  }
  return messages
}

struct MessageReassemblerTests {
  private static let sent: [[UInt8]] = [
    [1, 2, 3], [], [7], [UInt8](repeating: 9, count: 300), [UInt8](repeating: 8, count: 65_535),
    [], [5, 6],
  ]

  @Test func takesSingleBytes() {
    #expect(messages(in: Self.sent.flatMap(framed).map { [$0] }) == Self.sent)
  }

  @Test func takesAllAtOnce() {
    #expect(messages(in: [Self.sent.flatMap(framed)]) == Self.sent)
  }

  @Test func takesAnyPieces() {
    var generator = SplitMix(seed: 1)
    for _ in 0..<50 {
      let pieces = randomPieces(of: Self.sent.flatMap(framed), using: &generator)
      #expect(messages(in: pieces) == Self.sent)
    }
  }

  @Test func waitsForTheRest() {
    for whole in [[1, 2, 3], [UInt8](repeating: 4, count: 257)] as [[UInt8]] {
      for cut in 0..<framed(whole).count {
        #expect(messages(in: [Array(framed(whole)[..<cut])]).isEmpty)
      }
    }
  }
}
