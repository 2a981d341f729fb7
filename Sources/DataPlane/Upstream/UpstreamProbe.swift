package import Addressing
package import LinuxIO
package import SOCKS

/// One handshake on a connection of our own, off every flow's path: is the upstream there, does it
/// take our credentials, does it take the whole handshake in one write, and what does it reply?
package enum UpstreamProbe {
  /// What the upstream is asked for: the discard port of its own host, which it can refuse at once.
  /// Any reply proves what is asked here.
  package static let target = Endpoint.address(SocketAddress(.v4(.loopback), 9))
  /// The same by IPv6, for what `ReplyCode.addressTypeNotSupported` says of an upstream.
  package static let targetV6 = Endpoint.address(SocketAddress(.v6(.loopback), 9))

  package enum Outcome: Sendable {
    /// The whole handshake went through; whether the target was reached does not matter.
    case replied(ReplyCode)
    case cannotConnect(Errno)
    /// It ended like this before a reply. After a time-out it is `.closed` with the phase that was
    /// waited in.
    case failed(HandshakeFailure, isTimeout: Bool)
    /// The same of a hop of a chain that is not its last: `hop` counts from 0. What it says of the next
    /// one is such a failure, too.
    case stuck(HandshakeFailure, isTimeout: Bool, hop: Int)
  }

  /// Blocks until the upstream has answered, at most `timeout` for the connection and as much again
  /// for the handshake.
  /// - Parameter hop: of a chain, counted from 0, the one that is asked; nil: the last.
  package static func run(
    _ upstream: Upstream, _ command: SOCKS.Command = .connect, to destination: Endpoint = target,
    hop: Int? = nil, mode: ClientHandshake.Mode, mark: UInt32?, timeout: Timeout
  ) -> Outcome {
    let connection: ProbeConnection
    do {
      connection = try ProbeConnection(to: upstream, mark: mark, deadline: .now() + timeout)
    } catch {
      return .cannotConnect(error)
    }
    connection.deadline = .now() + timeout
    return connection.request(command, to: destination, hop: hop, mode: mode)
  }

  /// Finds out whether the upstream relays datagrams, in a chain each hop, by associations that are ended
  /// at once, and remembers it there; blocks like `run`, for each hop. Returns why it does not.
  /// - Parameter member: which of its group it is.
  package static func askForDatagrams(
    _ upstream: Upstream, member: Int = 0, mark: UInt32?, timeout: Timeout
  ) -> DatagramRefusal? {
    func refusal(_ failure: HandshakeFailure, by hop: Int) -> DatagramRefusal {
      DatagramRefusal(failure: failure, part: UpstreamPart(member: member, hop: hop))
    }
    if let hop = upstream.hopWithoutDatagrams {
      return refusal(.datagramsNotSupported, by: hop)
    }
    for hop in 0..<upstream.hopCount {
      let failure: HandshakeFailure
      switch askForDatagrams(upstream, hop: hop, mark: mark, timeout: timeout) {
      case .replied(.succeeded): continue
      case .replied(let code): failure = .refused(code)
      case .failed(let reason, isTimeout: false): failure = reason
      case .failed, .stuck, .cannotConnect: return nil
      }
      guard failure.refusesDatagrams else { return nil }
      upstream.datagramAbility = .refuses
      return refusal(failure, by: hop)
    }
    upstream.datagramAbility = .relays
    return nil
  }

  /// Asks the hop at an index of a chain for an association, which is ended at once; blocks like `run`.
  package static func askForDatagrams(
    _ upstream: Upstream, hop: Int, mark: UInt32?, timeout: Timeout
  ) -> Outcome {
    run(
      upstream, .udpAssociate, to: upstream.associationRequest(atHop: hop), hop: hop,
      mode: .stepwise, mark: mark, timeout: timeout)
  }
}

extension UpstreamProbe.Outcome {
  init(_ failure: HandshakeFailure, of negotiation: Negotiation) {
    if !negotiation.isAtLastHop {
      self = .stuck(failure, isTimeout: false, hop: negotiation.hop)
    } else {
      self = failure.replyCode.map { .replied($0) } ?? .failed(failure, isTimeout: false)
    }
  }

  /// Nothing more came.
  init(end negotiation: Negotiation, isTimeout: Bool = false) {
    let failure = negotiation.endAsClient()
    self =
      negotiation.isAtLastHop
      ? .failed(failure, isTimeout: isTimeout)
      : .stuck(failure, isTimeout: isTimeout, hop: negotiation.hop)
  }
}
