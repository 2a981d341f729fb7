import Addressing
import Configuration
import Testing

struct FlowTests {
  private func flow(
    _ transport: String, _ destination: String, _ change: (inout Flow.Options) -> Void = { _ in }
  ) throws -> Flow {
    var options = Flow.Options(transport: transport, destination: destination)
    change(&options)
    return try Flow(options)
  }

  @Test func anOwnFlowIsAsWhoeverAsks() throws {
    let flow = try flow("tcp", "[2001:db8::1]:443")
    #expect(flow.destination == IPAddress("2001:db8::1"))
    #expect(flow.port == 443)
    #expect(flow.origin == .machine(user: nil, group: nil, controlGroup: nil))
    #expect(flow.output == nil)
  }

  @Test func aFlowThatArrivesHasASender() throws {
    let flow = try flow("icmp", "203.0.113.7") {
      $0.input = "lan0"
      $0.source = "192.0.2.9"
      $0.hardwareAddress = "02:00:5e:10:00:01"
      $0.output = "wan0"
    }
    let source = try #require(IPAddress("192.0.2.9"))
    #expect(
      flow.origin == .gateway(input: "lan0", source: source, HardwareAddress("02:00:5e:10:00:01")))
    #expect(flow.port == 0)
    #expect(flow.output == "wan0")
  }

  private static func options(_ change: (inout Flow.Options) -> Void) -> Flow.Options {
    var options = Flow.Options(transport: "tcp", destination: "203.0.113.7:443")
    change(&options)
    return options
  }

  @Test(arguments: [
    ("--in", options { $0.input = "lan0" }),
    ("--in", options { $0.source = "192.0.2.9" }),
    ("--in", options { $0.hardwareAddress = "02:00:5e:10:00:01" }),
    ("--as-uid", options { ($0.input, $0.source, $0.user) = ("lan0", "192.0.2.9", "0") }),
    ("--from-address", options { ($0.input, $0.source) = ("lan0", "2001:db8::1") }),
    ("--from-address", options { ($0.input, $0.source) = ("lan0", "192.0.2.0/24") }),
    ("--in", options { ($0.input, $0.source) = ("lan*", "192.0.2.9") }),
    ("--out", options { $0.output = "wan*" }),
    ("--as-uid", options { $0.user = "0-5" }),
    ("--as-gid", options { $0.group = "" }),
  ])
  func namesTheFlag(_ flag: String, _ options: Flow.Options) {
    let error = #expect(throws: ConfigurationError.self) { try Flow(options) }
    #expect(error?.description.contains(flag) == true)
  }
}
