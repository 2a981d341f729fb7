/// The pieces in which a stream arrives, for an input that holds the stream from `start` on and behind
/// it the sizes of the pieces, the first one last:
///
///     +-------+--------+---------+-----------------+
///     | start | stream | size n… | size 2 | size 1 |
///     +-------+--------+---------+-----------------+
///
/// They meet wherever the sizes are enough for what lies before them, so that every input is one. The
/// pieces are adjacent; some are empty.
func pieces(of input: Span<UInt8>, from start: Int) -> [Range<Int>] {
  var pieces: [Range<Int>] = []
  var (begin, end) = (start, input.count)
  while begin < end {
    end -= 1
    let next = min(begin + Int(input[end]), end)
    pieces.append(begin..<next)
    begin = next
  }
  return pieces
}
