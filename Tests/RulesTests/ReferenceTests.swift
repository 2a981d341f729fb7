import Addressing
import Foundation
import NFTables
import RedirectPolicy
import Testing

/// The rulesets in `nft/` say, without their comments, what the policy says.
struct ReferenceTests {
  @Test(arguments: [
    ("machine-redirect.nft", RedirectPolicy.machine(.redirect)),
    ("machine.nft", .machine(.tproxy)),
    ("gateway.nft", .gateway(.tproxy)),
    ("gateway-redirect.nft", .gateway(.redirect)),
  ])
  func agreesWithThePolicy(file: String, policy: RedirectPolicy) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let text = try String(contentsOf: root.appending(path: "nft/\(file)"), encoding: .utf8)
    let statements = text.split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.drop(while: \.isWhitespace).hasPrefix("#") }
      .drop(while: \.isEmpty)
    #expect(statements.joined(separator: "\n") == policy.table().description + "\n")
  }
}

extension RedirectPolicy {
  fileprivate static func machine(_ capture: Capture) -> RedirectPolicy {
    RedirectPolicy(machine: capture, upstreams: addresses("192.0.2.1"))
  }

  fileprivate static func gateway(_ capture: Capture) -> RedirectPolicy {
    RedirectPolicy(
      gateway: Gateway(interfaces: ["lan0"], capture: capture),
      upstreams: addresses("2001:db8::1"))
  }
}
