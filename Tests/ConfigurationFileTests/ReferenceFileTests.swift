import Configuration
import Foundation
import Testing

@testable import ConfigurationFile

/// docs/sluice.yaml, which people copy, and docs/sluice.schema.json, which editors read.
@Suite struct ReferenceFileTests {
  private func lines() throws -> [Substring] {
    try text(of: "sluice.yaml").split(separator: "\n", omittingEmptySubsequences: false)
  }

  private func text(of name: String) throws -> String {
    let root = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    return try String(contentsOf: root.appending(path: "docs/\(name)"), encoding: .utf8)
  }

  @Test func schemaIsThatOfTheSettings() throws {
    let schema = try text(of: "sluice.schema.json")
    #expect(schema == ConfigurationFile.schema + "\n", "renew it: sluice check --schema")
    // It is JSON, which has each setting.
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(schema.utf8)) as? [String: Any])
    let properties = try #require(object["properties"] as? [String: Any])
    #expect(properties.keys.sorted() == Setting.all.map(\.name).sorted())
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
