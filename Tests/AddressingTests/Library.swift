import Glibc
import TestSupport

/// What the C library makes of an address of either family: its 4 or 16 bytes.
func parsedByLibrary(_ text: String) -> [UInt8]? {
  for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
    var bytes = [UInt8](repeating: 0, count: count)
    if inet_pton(family, text, &bytes) == 1 { return bytes }
  }
  return nil
}

/// The text with up to three characters changed, removed, doubled or inserted; without NUL, which the C
/// library takes for the end.
func spoilt(_ text: String, using generator: inout SplitMix) -> String {
  let alphabet = Array("0123456789abcdefABCDEF::::....%gG[]/ +-x")
  var characters = Array(text)
  for _ in 0..<Int.random(in: 0...3, using: &generator) where !characters.isEmpty {
    let index = Int.random(in: characters.indices, using: &generator)
    let other = alphabet[Int.random(in: alphabet.indices, using: &generator)]
    switch Int.random(in: 0..<4, using: &generator) {
    case 0: characters[index] = other
    case 1: characters.remove(at: index)
    case 2: characters.insert(characters[index], at: index)
    default: characters.insert(other, at: index)
    }
  }
  return String(characters)
}
