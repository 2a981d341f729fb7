internal import Addressing

/// What one association has carried since it was last recorded, for each destination by itself; empty
/// without an audit.
struct AssociationTraffic {
  /// Destinations that are kept; then all are recorded, and those that come again are new flows.
  static let maximumDestinations = 256

  private var destinations: [SocketAddress: Audit.Traffic] = [:]

  /// Whether there is no room for another destination.
  func isFull(for destination: SocketAddress) -> Bool {
    destinations.count >= Self.maximumDestinations && destinations[destination] == nil
  }

  mutating func add(with destination: SocketAddress, sent: Int, received: Int) {
    let traffic = Audit.Traffic(sent: UInt64(sent), received: UInt64(received))
    destinations[destination, default: Audit.Traffic(flows: 1)] += traffic
  }

  /// Gives everything away.
  mutating func removeAll(_ body: (SocketAddress, Audit.Traffic) -> Void) {
    for (destination, traffic) in destinations { body(destination, traffic) }
    destinations = [:]
  }
}
