internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy
internal import SOCKS

/// Our own rules and data plane between a client and a SOCKS5 server of the doctor's: what the client
/// sends to a host elsewhere has to come back, and the server has to be asked for that host.
struct TCPTrial {
  private static let payload = Array("sluice".utf8)
  private static let upstreamAddress = Laboratory.loopback(.v4, 1080)

  private let capture: RedirectPolicy.Capture
  private let laboratory: Laboratory

  init(_ capture: RedirectPolicy.Capture, _ laboratory: Laboratory) {
    self.capture = capture
    self.laboratory = laboratory
  }

  func findings() -> [Finding] {
    do throws(TrialFailure) {
      let rules = try install()
      defer { try? rules.remove() }
      let server = try listen()
      let plane = try startDataPlane()
      defer { plane.stop() }
      return laboratory.families.map { family in
        do throws(TrialFailure) {
          try exchange(family, server)
          return .ok(check(family), "TCP by \(capture) over \(family.name) works")
        } catch {
          return finding(family, error)
        }
      }
    } catch {
      return laboratory.families.map { finding($0, error) }
    }
  }

  private func finding(_ family: IPFamily, _ failure: TrialFailure) -> Finding {
    let wanted = laboratory.wanted
    let isNeeded = [wanted.machine?.capture, wanted.gateway?.capture].contains(capture)
    return .missing(
      check(family), isNeeded: isNeeded,
      "TCP by \(capture) over \(family.name) does not work: \(failure.what)",
      advice: failure.advice)
  }

  private func check(_ family: IPFamily) -> Finding.Check {
    switch (capture, family) {
    case (.tproxy, .v4): .tproxyIPv4
    case (.tproxy, .v6): .tproxyIPv6
    case (.redirect, .v4): .redirectIPv4
    case (.redirect, .v6): .redirectIPv6
    }
  }

  // MARK: Preparation

  private var policy: RedirectPolicy {
    var policy = RedirectPolicy(machine: RedirectPolicy.Machine(capture))
    policy.numbers = laboratory.wanted.numbers
    // UDP has a trial of its own.
    policy.uncaptured.udp = .bypass
    policy.dns = .none
    return policy
  }

  private func install() throws(TrialFailure) -> RuleInstaller {
    do {
      let rules = try RuleInstaller(ownership: .process)
      try rules.install(policy)
      return rules
    } catch {
      throw TrialFailure(error)
    }
  }

  private func listen() throws(TrialFailure) -> Descriptor {
    do {
      return try StreamSocket.listen(on: Self.upstreamAddress, .init())
    } catch {
      throw TrialFailure("listen in the namespace", error)
    }
  }

  private func startDataPlane() throws(TrialFailure) -> DataPlane {
    let listeners = Scope(policy).listeners.filter {
      laboratory.families.contains($0.address.address.family)
    }
    var configuration = DataPlaneConfiguration(
      workers: 1, listeners: listeners, descriptorLimit: 1024)
    configuration.upstream = Upstream(at: .address(Self.upstreamAddress), credentials: nil)
    configuration.mark = policy.numbers.marks.own.value
    let plane: DataPlane
    do {
      // What goes wrong on the way shows in what does not arrive.
      plane = try DataPlane(configuration) { _ in }
    } catch {
      throw TrialFailure("listen on \(error.address)", error.errno)
    }
    do {
      try plane.start()
    } catch {
      throw TrialFailure("start a worker", error)
    }
    return plane
  }

  // MARK: The flow

  /// Client and server in turns, on this one thread.
  private func exchange(
    _ family: IPFamily, _ server: borrowing Descriptor
  ) throws(TrialFailure) {
    let destination = Laboratory.destination(family)
    let deadline = Instant.now() + Laboratory.patience
    let client = try connect(to: destination, until: deadline)
    try client.put(Self.payload)
    guard server.wait(for: .readable, until: deadline),
      case .connection(let flow, _) = StreamSocket.accept(from: server)
    else { throw TrialFailure(lost: "the connection that the data plane makes to the upstream") }
    let asked = try serve(flow, until: deadline)
    guard asked == .address(destination) else {
      throw TrialFailure(
        "the upstream was asked for \(asked) instead of \(destination)",
        advice: "the kernel gives a wrong original destination: tell us its version")
    }
    guard try client.next("the answer", until: deadline) == Self.payload else {
      throw TrialFailure("the answer was not what had been sent", advice: "tell us")
    }
  }

  private func connect(
    to destination: SocketAddress, until deadline: Instant
  ) throws(TrialFailure) -> Descriptor {
    let client: Descriptor
    do {
      client = try StreamSocket.connect(to: destination, mark: nil)
    } catch {
      throw TrialFailure("connect to \(destination)", error)
    }
    guard client.wait(for: .writable, until: deadline) else {
      throw TrialFailure(lost: "a captured connection to \(destination)")
    }
    if let error = client.pendingError { throw TrialFailure("connect to \(destination)", error) }
    return client
  }

  /// Lets everybody in, says yes to whatever is asked, and sends the first bytes back.
  /// - Returns: what was asked for.
  private func serve(
    _ flow: borrowing Descriptor, until deadline: Instant
  ) throws(TrialFailure) -> Endpoint {
    var handshake = ServerHandshake(logins: nil)
    while true {
      let input = try flow.next("the SOCKS5 request", until: deadline)
      var output: [UInt8] = []
      var step: (consumed: Int, action: ServerHandshake.Action) = (0, .reject)
      output.append(addingCapacity: ServerHandshake.maximumOutputBytes) {
        step = handshake.receive(input.span, into: &$0)
      }
      switch step.action {
      case .receive:
        try flow.put(output)
      case .connect(let destination):
        output.append(addingCapacity: ServerHandshake.maximumOutputBytes) {
          handshake.reply(.succeeded, bound: Self.upstreamAddress, into: &$0)
        }
        try flow.put(output)
        try flow.put(try flow.next("what the client sent", until: deadline))
        return destination
      case .associate, .bind, .reject:
        throw TrialFailure("the data plane does not speak SOCKS5", advice: "tell us")
      }
    }
  }
}

extension IPFamily {
  /// For people.
  var name: String { self == .v4 ? "IPv4" : "IPv6" }
}
