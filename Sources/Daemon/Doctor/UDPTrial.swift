internal import Addressing
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// Whether `tproxy` delivers datagrams to a transparent socket, and the kernel says where they were
/// sent.
struct UDPTrial {
  private static let payload = Array("sluice".utf8)
  private static let port: UInt16 = 10890

  private let laboratory: Laboratory

  init(_ laboratory: Laboratory) { self.laboratory = laboratory }

  func findings() -> [Finding] {
    do throws(NetfilterError) {
      let rules = try RuleInstaller(ownership: .process)
      var tproxy = RedirectPolicy(machine: RedirectPolicy.Machine(.tproxy))
      tproxy.numbers = laboratory.wanted.numbers
      try rules.install(table, tproxy.routing())
      defer { try? rules.remove() }
      return laboratory.families.map { family in
        do throws(TrialFailure) {
          try exchange(family)
          return .ok(check(family), "UDP by tproxy over \(family.name) works")
        } catch {
          return finding(family, error)
        }
      }
    } catch {
      return laboratory.families.map { finding($0, TrialFailure(error)) }
    }
  }

  private func finding(_ family: IPFamily, _ failure: TrialFailure) -> Finding {
    .missing(
      check(family), isNeeded: laboratory.wanted.capturesDatagrams,
      "UDP by tproxy over \(family.name) does not work: \(failure.what)",
      advice: failure.advice)
  }

  private func check(_ family: IPFamily) -> Finding.Check { family == .v4 ? .udpIPv4 : .udpIPv6 }

  /// Marks every datagram on its way out, which routes it to the loopback, and delivers it from there.
  private var table: Table {
    let mark = laboratory.wanted.numbers.marks.machine
    let deliveries = laboratory.families.map { family in
      Rule(
        .interface(InterfaceMatch(.input, .equal, .name("lo"))),
        .mark(MarkMatch(.packet, mark)), .family(FamilyMatch(family)),
        .transport(TransportMatch(.equal, .udp)),
        .tproxy(TransparentProxy(to: Laboratory.loopback(family, Self.port))), .verdict(.accept))
    }
    return Table(
      family: .inet, name: "sluice_doctor_udp", sets: [],
      chains: [
        Chain(
          "mark", Chain.Base(.route, .output, .mangle),
          rules: [
            Rule(.transport(TransportMatch(.equal, .udp)), .setMark(MarkAssignment(.packet, mark)))
          ]),
        Chain("deliver", Chain.Base(.filter, .prerouting, .mangle), rules: deliveries),
      ])
  }

  private func exchange(_ family: IPFamily) throws(TrialFailure) {
    let destination = Laboratory.destination(family)
    let listener = try send(to: destination)
    var reader = DatagramReader()
    guard listener.wait(for: .readable, until: .now() + Laboratory.patience),
      case .slots = reader.receive(from: listener.rawValue, into: 0..<1),
      case let datagram = reader.received(at: 0), datagram.bytes.elementsEqual(Self.payload)
    else { throw TrialFailure(lost: "a captured datagram to \(destination)") }
    guard datagram.destination?.address == destination else {
      let told = datagram.destination.map { "\($0)" } ?? "none"
      throw TrialFailure(
        "the original destination is \(told) instead of \(destination)",
        advice: "the kernel gives a wrong original destination: tell us its version")
    }
  }

  /// Sends a datagram and returns the listener that it should come to.
  private func send(to destination: SocketAddress) throws(TrialFailure) -> Descriptor {
    let address = Laboratory.loopback(destination.address.family, Self.port)
    do throws(Errno) {
      let listener = try DatagramSocket.openTransparent(on: address)
      let client = try DatagramSocket.open(for: destination)
      try DatagramSocket.send(Self.payload, from: client, to: destination)
      return listener
    } catch {
      throw TrialFailure("send a datagram to \(destination)", error)
    }
  }
}
