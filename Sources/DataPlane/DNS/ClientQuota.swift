internal import Addressing

/// How many queries each client has on their way, so that one that asks without end, or asks what nobody
/// answers, does not take the room of all others.
struct ClientQuota {
  /// Queries of one address, to all resolvers together.
  static let maximumQueries = 1024

  private var counts: [IPAddress: Int] = [:]

  /// Counts another query of `client`; false if it has too many.
  mutating func take(_ client: IPAddress) -> Bool {
    let count = counts[client, default: 0]
    guard count < Self.maximumQueries else { return false }
    counts[client] = count + 1
    return true
  }

  mutating func giveBack(_ client: IPAddress) {
    guard let count = counts[client] else { return }
    counts[client] = count > 1 ? count - 1 : nil
  }
}
