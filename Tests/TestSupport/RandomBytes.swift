/// The bytes cut at random places into pieces, some of them empty.
package func randomPieces(of bytes: [UInt8], using generator: inout SplitMix) -> [[UInt8]] {
  var pieces: [[UInt8]] = []
  var rest = bytes[...]
  let most = Int.random(in: 1...max(bytes.count, 1), using: &generator)
  while !rest.isEmpty {
    let count = Int.random(in: 0...most, using: &generator)
    pieces.append(Array(rest.prefix(count)))
    rest = rest.dropFirst(count)
  }
  return pieces
}

/// The bytes with a few of them changed, removed, doubled, inserted, or all after one cut off.
/// - Parameter telling: a byte to put in.
package func mutated(
  _ bytes: [UInt8], using generator: inout SplitMix, _ telling: (inout SplitMix) -> UInt8
) -> [UInt8] {
  var bytes = bytes
  for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
    let index = Int.random(in: bytes.indices, using: &generator)
    switch Int.random(in: 0..<5, using: &generator) {
    case 0: bytes[index] = telling(&generator)
    case 1: bytes.remove(at: index)
    case 2: bytes.insert(bytes[index], at: index)
    case 3: bytes.insert(telling(&generator), at: index)
    default: bytes.removeSubrange(index...)
    }
  }
  return bytes
}
