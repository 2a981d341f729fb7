internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// Whether a server of the right kind is there and lets us in.
enum AdmissionQuestion {
  /// Asks off every flow's path; blocks like `UpstreamProbe.run`, and once more as long in one case.
  ///
  /// Some servers (`ssh -D`, pproxy) close the connection in place of saying that they cannot connect.
  /// Behind a method selection that is as good as a reply. Where a reply is all that a server ever says
  /// (SOCKS4, HTTP), it could be of another kind: then it is asked for something that it can reach,
  /// itself.
  static func ask(
    _ upstream: Upstream, mark: UInt32?, timeout: Timeout
  ) -> UpstreamProbe.Outcome {
    let outcome = UpstreamProbe.run(upstream, mode: .stepwise, mark: mark, timeout: timeout)
    guard case .failed(.closed(.answer), isTimeout: false) = outcome,
      let itself = upstream.lastEndpoint
    else { return outcome }
    let second = UpstreamProbe.run(
      upstream, to: itself, mode: .stepwise, mark: mark, timeout: timeout)
    guard case .replied = second else { return outcome }
    return second
  }
}

extension Upstream {
  /// Where the last of its servers is asked for; nil for a Unix socket.
  fileprivate var lastEndpoint: Endpoint? {
    if let hop = further.last { return hop.endpoint }
    return switch place {
    case .address(let address): .address(address)
    case .socket: nil
    }
  }
}
