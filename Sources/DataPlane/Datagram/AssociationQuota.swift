internal import Addressing
internal import Synchronization

/// How many associations all workers together may have, and how many of them one client's address. It is
/// asked when an association begins or ends, not for its datagrams.
final class AssociationQuota: Sendable {
  enum Answer {
    case granted
    /// Everything is taken.
    case full
    /// The client has as many as one may have.
    case fullForClient
  }

  private let maximum: Int
  private let maximumPerClient: Int
  private let taken = Mutex(Taken())

  private struct Taken {
    var count = 0
    var byClient: [IPAddress: Int] = [:]
  }

  init(maximum: Int, maximumPerClient: Int) {
    self.maximum = maximum
    self.maximumPerClient = maximumPerClient
  }

  func take(for client: IPAddress) -> Answer {
    taken.withLock { taken in
      let ofClient = taken.byClient[client, default: 0]
      guard ofClient < maximumPerClient else { return .fullForClient }
      guard taken.count < maximum else { return .full }
      taken.count += 1
      taken.byClient[client] = ofClient + 1
      return .granted
    }
  }

  /// Of all, and of the client that has most.
  var bounds: [Bound] {
    let (count, most) = taken.withLock { ($0.count, $0.byClient.values.max() ?? 0) }
    return [
      Bound("associations", used: count, limit: maximum),
      Bound("associations of one client", used: most, limit: maximumPerClient),
    ]
  }

  func giveBack(of client: IPAddress) {
    taken.withLock { taken in
      taken.count -= 1
      guard let ofClient = taken.byClient[client] else { return }
      taken.byClient[client] = ofClient > 1 ? ofClient - 1 : nil
    }
  }
}
