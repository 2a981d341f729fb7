package import Addressing
package import LinuxIO
package import SOCKS

/// Whether a server of the right kind is there and lets us in, or leads to a target.
package struct AdmissionQuestion: Sendable {
  /// Nil: its own host, of which any reply will do.
  private let target: Endpoint?
  private let mark: UInt32?
  private let timeout: Timeout

  package init(target: Endpoint? = nil, mark: UInt32?, timeout: Timeout) {
    self.target = target
    self.mark = mark
    self.timeout = timeout
  }

  /// Asks off every flow's path, and notes in the upstream what has come of it. Blocks like
  /// `UpstreamProbe.run`, and once more as long in one case.
  ///
  /// Some servers (`ssh -D`, pproxy) close the connection in place of saying that they cannot connect.
  /// Behind a method selection that is as good as a reply. Where a reply is all that a server ever says
  /// (SOCKS4, HTTP), it could be of another kind: then it is asked for something that it can reach,
  /// itself.
  package func ask(_ upstream: Upstream) -> UpstreamProbe.Outcome {
    let start = Instant.now()
    let outcome = outcome(of: upstream)
    let now = Instant.now()
    upstream.lastProbe = HealthRecord(
      time: now, failure: failure(outcome, of: upstream),
      milliseconds: now.milliseconds(since: start))
    return outcome
  }

  /// Why flows do not get through an upstream, if they do not; blocks like `ask`.
  package func findFailure(of upstream: Upstream) -> Failure? {
    failure(ask(upstream), of: upstream)
  }

  private func outcome(of upstream: Upstream) -> UpstreamProbe.Outcome {
    let outcome = run(upstream, to: target ?? UpstreamProbe.target)
    guard case .failed(.closed(.answer), isTimeout: false) = outcome,
      let itself = upstream.lastEndpoint
    else { return outcome }
    let second = run(upstream, to: itself)
    guard case .replied = second else { return outcome }
    return second
  }

  private func run(_ upstream: Upstream, to destination: Endpoint) -> UpstreamProbe.Outcome {
    UpstreamProbe.run(upstream, to: destination, mode: .stepwise, mark: mark, timeout: timeout)
  }

  /// What a reply says of the target is not held against the upstream. Where the user has chosen that, a
  /// server that does not want to connect to it, or fails without telling why, is one that does not work;
  /// SOCKS4 and HTTP have but one word for this and for a target that refuses.
  private func failure(_ outcome: UpstreamProbe.Outcome, of upstream: Upstream) -> Failure? {
    guard target != nil else { return outcome.failure }
    if case .failed(.closed(.reply), isTimeout: true) = outcome { return .handshakeTimeout }
    guard case .replied(let code) = outcome, code != .succeeded else { return outcome.failure }
    let failure = Failure(.refused(code))
    guard failure.isRefusal else { return nil }
    switch upstream.lastDialect {
    case .socks5, .gssapi: return failure
    case .socks4, .http: return code == .generalFailure ? nil : failure
    }
  }
}

extension Upstream {
  /// Of the server that is asked for destinations.
  package var lastDialect: Dialect { further.last?.dialect ?? dialect }

  /// Where the last of its servers is asked for; nil for a Unix socket, or nowhere.
  fileprivate var lastEndpoint: Endpoint? {
    if let hop = further.last { return hop.endpoint }
    return switch place {
    case .address(let address): .address(address)
    case .socket, .nowhere: nil
    }
  }
}

extension UpstreamProbe.Outcome {
  /// Why flows do not get through, if they do not.
  package var failure: Failure? {
    switch self {
    case .replied, .failed(.closed(.reply), _): nil
    case .cannotConnect(let error): Failure(connecting: error)
    case .failed(_, isTimeout: true), .stuck(_, isTimeout: true, _): .handshakeTimeout
    case .failed(let failure, isTimeout: false): Failure(failure)
    case .stuck: .hopRefused
    }
  }
}
