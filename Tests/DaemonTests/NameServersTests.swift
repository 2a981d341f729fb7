import Addressing
import NFTables
import RedirectPolicy
import Testing

@testable import Daemon

struct NameServersTests {
  private static let stub = "# by systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n"

  private func addresses(_ texts: [String]) -> [IPAddress] { texts.compactMap { IPAddress($0) } }

  @Test(arguments: [
    ("", "nameserver 192.0.2.1", [], []),
    ("nameserver 192.0.2.1\nnameserver\t2001:db8::1\n", "", ["192.0.2.1", "2001:db8::1"], []),
    ("#nameserver 192.0.2.1\nsearch example\nnameserver nonsense\nnameserver", "", [], []),
    (stub, "nameserver 192.168.1.1", [], ["192.168.1.1"]),
    (stub, "", [], []),
    ("nameserver ::1\nnameserver 192.0.2.1", "nameserver 10.0.0.1", ["192.0.2.1"], ["10.0.0.1"]),
    ("nameserver 192.0.2.1", "nameserver 10.0.0.1", ["192.0.2.1"], []),
  ])
  func areRead(programs: String, stub: String, asked: [String], byStub: [String]) {
    let servers = NameServers(programs: programs, stub: stub)
    #expect(servers.asked == addresses(asked))
    #expect(servers.askedByStub == addresses(byStub))
  }

  /// What is told of a public and a private server, asked by programs and by a stub.
  @Test func directOnesAreTold() {
    let publicServer = "nameserver 9.9.9.9"
    let privateServer = "nameserver 192.168.1.1"
    func direct(
      _ programs: String, _ stub: String = "", _ change: (inout RedirectPolicy) -> Void = { _ in }
    ) -> [String] {
      var policy = RedirectPolicy(machine: .init(.tproxy))
      policy.dns = .selected
      change(&policy)
      return NameServers(programs: programs, stub: stub).direct(under: policy).map(\.description)
    }
    let stub = Self.stub
    #expect(direct(publicServer) == [])
    #expect(direct(privateServer) == ["192.168.1.1"])
    #expect(direct(stub, privateServer) == ["192.168.1.1"])
    #expect(direct(stub, publicServer) == [])
    #expect(direct(privateServer) { $0.destinations.includesPrivate = true } == [])
    #expect(direct(privateServer) { $0.dns = .everywhere } == [])
    #expect(direct(privateServer) { $0.machine = nil } == [])
    // A stub is a program of its own user.
    let users = RedirectPolicy.Choice<ClosedRange<UInt32>>(only: [1000...1000])
    #expect(direct(stub, publicServer) { $0.machine?.users = users } == ["9.9.9.9"])
    #expect(direct(publicServer) { $0.machine?.users = users } == [])
  }
}
