/// The word that somebody who wrote `text` may have meant; nil if none is near.
func nearestWord(to text: String, among words: [String]) -> String? {
  let rated = words.map { (word: $0, distance: editDistance(Array(text.utf8), Array($0.utf8))) }
  guard let best = rated.min(by: { $0.distance < $1.distance }) else { return nil }
  return best.distance <= max(2, text.utf8.count / 3) && best.distance < best.word.utf8.count
    ? best.word : nil
}

/// How many bytes have to be put in, taken out, replaced, or exchanged with the next one (Damerau's
/// distance, restricted to one change of each place).
private func editDistance(_ one: [UInt8], _ other: [UInt8]) -> Int {
  var beforeLast: [Int] = []
  var last = Array(0...other.count)
  for (row, byte) in one.enumerated() {
    var next = [row + 1]
    for (column, otherByte) in other.enumerated() {
      var distance = min(
        last[column + 1] + 1, next[column] + 1, last[column] + (byte == otherByte ? 0 : 1))
      if row > 0, column > 0, byte == other[column - 1], one[row - 1] == otherByte {
        distance = min(distance, beforeLast[column - 1] + 1)
      }
      next.append(distance)
    }
    (beforeLast, last) = (last, next)
  }
  return last[other.count]
}
