import Configuration
import Foundation
import Testing

@testable import ConfigurationFile

/// docs/sluice.yaml, which people copy.
@Suite struct ReferenceFileTests {
  private func lines() throws -> [Substring] {
    let root = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    return try String(contentsOf: root.appending(path: "docs/sluice.yaml"), encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false)
  }

  @Test func saysNothingAsItIs() throws {
    #expect(try ConfigurationFile(Array(lines().joined(separator: "\n").utf8)).options == Options())
  }

  @Test func hasEverySettingOnceAndValid() throws {
    // A setting has no space behind the #.
    let settings = try lines().map { line in
      line.hasPrefix("#") && !line.hasPrefix("# ") ? String(line.dropFirst()) : ""
    }
    let names = settings.compactMap { $0.split(separator: ":").first.map(String.init) }
    #expect(names.sorted() == Setting.all.map(\.name).sorted())
    _ = try ConfigurationFile(Array(settings.joined(separator: "\n").utf8))
  }
}
