internal import Addressing
internal import LinuxIO

/// What was decided over datagrams of late, by their client and destination. Of a bounded number: past that
/// all are forgotten.
struct DatagramVerdicts: ~Copyable {
  static let maximumVerdicts = 4096
  /// How long one stands: another program may have the port then, and an address another name.
  static let lifetime = Timeout.seconds(5)

  private struct Pair: Hashable {
    let client: SocketAddress
    let destination: SocketAddress
  }

  private struct Entry {
    let verdict: Policy.Verdict
    let end: Instant
  }

  private var entries: [Pair: Entry] = [:]

  /// Nil if it has to be decided anew.
  func find(_ client: SocketAddress, _ destination: SocketAddress, now: Instant) -> Policy.Verdict?
  {
    guard let entry = entries[Pair(client: client, destination: destination)], now < entry.end
    else { return nil }
    return entry.verdict
  }

  mutating func note(
    _ verdict: Policy.Verdict, _ client: SocketAddress, _ destination: SocketAddress, now: Instant
  ) {
    if entries.count >= Self.maximumVerdicts { entries.removeAll(keepingCapacity: true) }
    entries[Pair(client: client, destination: destination)] = Entry(
      verdict: verdict, end: now + Self.lifetime)
  }

  mutating func removeAll() { entries = [:] }
}
