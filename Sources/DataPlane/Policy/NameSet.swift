/// Host names, as DNS compares them: without regard to the case of ASCII letters (RFC 4343).
package struct NameSet: Hashable, Sendable {
  /// In lower case, without a dot at either end.
  private let exact: [String]
  /// Names of which those below are meant, with the dot before them.
  private let suffixes: [String]

  /// - Parameters:
  ///   - exact: these names, in lower case.
  ///   - below: names below these.
  package init(_ exact: [String] = [], below: [String] = []) {
    self.exact = exact
    suffixes = below.map { ".\($0)" }
  }

  package var isEmpty: Bool { exact.isEmpty && suffixes.isEmpty }

  package func contains(_ name: String) -> Bool {
    var length = name.utf8.count
    if name.utf8.last == UInt8(ascii: ".") { length -= 1 }
    for candidate in exact where candidate.utf8.count == length {
      if Self.ends(name, before: length, with: candidate) { return true }
    }
    for suffix in suffixes where suffix.utf8.count < length {
      if Self.ends(name, before: length, with: suffix) { return true }
    }
    return false
  }

  private static func ends(_ name: String, before length: Int, with suffix: String) -> Bool {
    name.utf8.prefix(length).dropFirst(length - suffix.utf8.count)
      .elementsEqual(suffix.utf8) { lowered($0) == $1 }
  }

  private static func lowered(_ byte: UInt8) -> UInt8 {
    UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte ? byte | 0x20 : byte
  }
}
