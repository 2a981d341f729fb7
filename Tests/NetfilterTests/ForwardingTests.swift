import Testing

@testable import Netfilter

struct ForwardingTests {
  @Test func continuesWhatIsRecorded() {
    let record = """
      net/ipv6/conf/eth0.1/accept_ra 1
      net/ipv4/conf/default/forwarding 0
      net/ipv4/conf/all/accept_redirects 1
      net/ipv4/ip_forward 0

      """
    #expect(Forwarding(continuing: record).record == record)
  }

  /// Whoever has made the record may have written anything.
  @Test(arguments: [
    "", "net/ipv4/ip_forward", "net/ipv4/ip_forward\n0", "kernel/core_pattern |x",
    "net/ipv4/tcp_rmem 1", "net/ipv4/conf/../ip_forward 0", "net/ipv4/conf/./forwarding 0",
    "net/ipv4/conf//forwarding 0", "net/ipv4/conf/a/b/forwarding 0", "/net/ipv4/ip_forward 0",
    "net/ipv5/conf/all/forwarding 0", "net/ipv6/conf/all/disable_ipv6 1",
  ])
  func leavesOutOthers(line: String) {
    #expect(
      Forwarding(continuing: "\(line)\nnet/ipv4/ip_forward 1\n").record == "net/ipv4/ip_forward 1\n"
    )
  }
}
