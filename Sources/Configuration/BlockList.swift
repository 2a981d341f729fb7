package import Addressing

/// A file of addresses and blocks: one on each line, `#` begins a comment, blank lines mean nothing.
package enum BlockList {
  /// - Parameter path: names the file in the message of an error, with the line.
  package static func parse(
    _ text: String, path: String
  ) throws(ConfigurationError) -> [CIDR] {
    var blocks: [CIDR] = []
    var number = 0
    for line in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      number += 1
      let content = trimmed(line.prefix { $0 != UInt8(ascii: "#") })
      if content.isEmpty { continue }
      guard let block = CIDR(Substring(content)) else {
        throw ConfigurationError(
          "\(path):\(number): \(Substring(content)) is no address and no block without host bits, "
            + "such as 203.0.113.0/24 or 2001:db8::/32")
      }
      blocks.append(block)
    }
    return blocks
  }

  /// Without spaces, tabs and the carriage returns of other systems at either end.
  private static func trimmed(_ line: Substring.UTF8View) -> Substring.UTF8View {
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D }
    var line = line.drop(while: isBlank)
    while let last = line.last, isBlank(last) { line = line.dropLast() }
    return line
  }
}
