internal import Addressing
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy
internal import Synchronization

/// Where the kernel's features are tried: a thread in a network namespace of its own, with nothing in
/// it but a loopback. All of it is gone when the thread ends.
struct Laboratory: Sendable {
  /// How long anything in the namespace may take; it takes milliseconds.
  static let patience = Timeout.seconds(3)

  /// What `run` is wanted for, to tell what it cannot do without.
  let wanted: RedirectPolicy
  /// IPv4, and IPv6 if this host has it.
  let families: [IPFamily]

  static func findings(_ wanted: RedirectPolicy) -> [Finding] {
    let laboratory = Laboratory(
      wanted: wanted, families: System.hasIPv6 ? [.v4, .v6] : [.v4])
    System.ignoreBrokenPipes()
    let results = Results()
    do {
      try Thread(name: "sluice-doctor") {
        results.set(laboratory.findings())
      }.join()
    } catch {
      return [laboratory.unusable("cannot start a thread: \(error)")]
    }
    return results.get()
  }

  private func findings() -> [Finding] {
    do {
      try Sandbox.enter(addresses: families.map(Self.ownAddress))
    } catch {
      return [unusable("\(error)")]
    }
    var findings: [Finding] = []
    for capture in [RedirectPolicy.Capture.tproxy, .redirect] {
      findings += TCPTrial(capture, self).findings()
    }
    findings += UDPTrial(self).findings()
    findings += FeatureTrial.all(for: wanted).map { $0.finding() }
    return findings
  }

  private func unusable(_ what: String) -> Finding {
    .warning(
      .sandbox, "\(what); the kernel's features were not tried",
      advice: "run the doctor outside of a container, or allow it to make namespaces")
  }

  // MARK: Addresses

  /// Of the host that the namespace is (RFC 5737, RFC 3849).
  static func ownAddress(_ family: IPFamily) -> IPAddress {
    switch family {
    case .v4: .v4(IPv4Address(bits: 0xC000_0201))
    case .v6: .v6(IPv6Address(high: 0x2001_0DB8_0001_0000, low: 1))
    }
  }

  /// A host elsewhere: 198.51.100.1 or 2001:db8::1.
  static func destination(_ family: IPFamily) -> SocketAddress {
    switch family {
    case .v4: SocketAddress(.v4(IPv4Address(bits: 0xC633_6401)), 7)
    case .v6: SocketAddress(.v6(IPv6Address(high: 0x2001_0DB8_0000_0000, low: 1)), 7)
    }
  }

  static func loopback(_ family: IPFamily, _ port: UInt16) -> SocketAddress {
    SocketAddress(family == .v4 ? .v4(.loopback) : .v6(.loopback), port)
  }
}

/// What the thread leaves for the one that waits for it.
private final class Results: Sendable {
  private let findings = Mutex<[Finding]>([])

  func set(_ value: [Finding]) { findings.withLock { $0 = value } }
  func get() -> [Finding] { findings.withLock { $0 } }
}

/// A step that did not do what it should.
struct TrialFailure: Error {
  let what: String
  let advice: String

  init(_ what: String, advice: String) {
    self.what = what
    self.advice = advice
  }

  init(_ error: NetfilterError) {
    self.init(
      "\(error)",
      advice: "use a kernel that has it; where it is a module that is missing, install the "
        + "distribution's package of kernel modules")
  }

  init(_ step: String, _ error: Errno) {
    self.init("cannot \(step): \(error)", advice: "look at the kernel's log: dmesg")
  }

  /// Nothing came within `Laboratory.patience`.
  init(lost step: String) {
    self.init(
      "\(step): nothing arrived",
      advice: "the kernel takes the rules and does not obey them: look "
        + "for security modules or a patched kernel, and tell us")
  }
}

// Whole messages within a deadline, on sockets that do not block.

extension Descriptor {
  /// Sends a few bytes, which a fresh socket always takes at once.
  borrowing func put(_ bytes: [UInt8]) throws(TrialFailure) {
    let result = bytes.withUnsafeBytes { send(rawValue, $0) }
    guard case .bytes(bytes.count) = result else {
      throw TrialFailure(lost: "sending \(bytes.count) bytes")
    }
  }

  /// What is there next.
  /// - Parameter step: what the bytes are, for the failure.
  borrowing func next(
    _ step: String, until deadline: Instant
  ) throws(TrialFailure) -> [UInt8] {
    guard wait(for: .readable, until: deadline) else { throw TrialFailure(lost: step) }
    var bytes = [UInt8](repeating: 0, count: 1024)
    switch bytes.withUnsafeMutableBytes({ receive(rawValue, into: $0) }) {
    case .bytes(let count) where count > 0: return Array(bytes[..<count])
    case .bytes, .wouldBlock: throw TrialFailure(lost: step)
    case .failed(let error): throw TrialFailure(step, error)
    }
  }
}
