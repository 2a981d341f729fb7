package import Addressing
package import SOCKS
internal import Synchronization

/// A SOCKS5 server that captured flows go through.
package final class Upstream: Sendable {
  package let address: SocketAddress
  package let credentials: Credentials?

  private let pipelines = Atomic<Bool>(false)

  package init(address: SocketAddress, credentials: Credentials?) {
    self.address = address
    self.credentials = credentials
  }

  /// Whether the handshake goes out in one write. False until it is proved, and again after a flow
  /// has failed in a way that speaks against the proof.
  var mode: ClientHandshake.Mode {
    pipelines.load(ordering: .relaxed) ? .pipelined : .stepwise
  }

  func setPipelining(_ proved: Bool) { pipelines.store(proved, ordering: .relaxed) }
}
