import Addressing
import Configuration
import Netfilter
import RedirectPolicy
import Testing

@testable import Daemon

struct ScopeTests {
  private func scope(
    isBridged: Bool = false, _ change: (inout Options) -> Void
  ) throws -> Scope {
    var options = Options()
    change(&options)
    let interface = HostNetwork.Interface("lan0", isBridge: isBridged)
    return try Scope(
      Configuration(options), upstreams: [],
      in: Surroundings(rules: [], interfaces: [interface], filtersBridges: isBridged))
  }

  @Test(
    arguments: [
      (nil, nil, nil, "TCP (tproxy) and UDP"), ("redirect", "proxy", nil, "TCP (redirect) and UDP"),
      (nil, "reject", nil, "TCP (tproxy) and DNS"), ("redirect", "bypass", "off", "TCP (redirect)"),
      ("redirect", nil, "off", "TCP (redirect) and UDP"),
    ] as [(String?, String?, String?, String)])
  func saysWhatIsCaptured(_ tcp: String?, _ udp: String?, _ dns: String?, _ traffic: String) throws
  {
    let scope = try scope {
      ($0.machine, $0.gateways) = (true, ["lan0"])
      ($0.tcp, $0.udp, $0.dns) = (tcp, udp, dns)
    }
    #expect(scope.description == "this machine's \(traffic), and \(traffic) from lan0")
    #expect(scope.datagramAddresses.isEmpty == !traffic.contains("and"))
    #expect(scope.datagramAddresses.allSatisfy { $0.port == 10881 && $0.address.isLoopback })
    #expect(scope.note == nil)
  }

  @Test(
    arguments: [
      (nil, nil, .selected), ("tcp", nil, .selected), ("off", nil, .none),
      (nil, "192.0.2.53", .everywhere), ("udp", "192.0.2.53", .everywhere),
    ] as [(String?, String?, RedirectPolicy.DNSCapture)])
  func aChosenResolverGetsEverything(
    _ dns: String?, _ server: String?, _ expected: RedirectPolicy.DNSCapture
  ) throws {
    let scope = try scope { ($0.machine, $0.dns, $0.dnsServer) = (true, dns, server) }
    #expect(scope.policy.dns == expected)
  }

  @Test(
    arguments: [
      (nil, nil, "UDP that arrives on the bridge lan0 is rejected"),
      ("bypass", nil, "DNS that arrives on the bridge lan0 by UDP is not captured"),
      ("bypass", "off", nil), ("reject", nil, nil),
    ] as [(String?, String?, String?)])
  func bridgesUnderTheFilterLoseDatagrams(
    _ udp: String?, _ dns: String?, _ note: String?
  ) throws {
    let scope = try scope(isBridged: true) {
      ($0.gateways, $0.udp, $0.dns) = (["lan0"], udp, dns)
    }
    #expect(scope.description == "TCP (redirect) from lan0")
    #expect(scope.datagramAddresses.isEmpty)
    #expect(scope.note?.split(separator: ",").first.map(String.init) == note)
  }

  @Test(
    arguments: [("tproxy", nil, "--tcp tproxy"), ("redirect", "proxy", "--udp proxy")]
      as [(String?, String?, String)])
  func bridgesUnderTheFilterCannotDoWhatIsAskedFor(
    _ tcp: String?, _ udp: String?, _ flag: String
  ) {
    let error = #expect(throws: CommandFailure.self) {
      try scope(isBridged: true) { ($0.gateways, $0.tcp, $0.udp) = (["lan0"], tcp, udp) }
    }
    #expect(error?.message.contains(flag) == true)
  }
}
