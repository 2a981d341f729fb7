package import Addressing
package import LinuxIO
package import SOCKS

/// What the data plane tells whoever runs it. Every kind is limited in rate at its source.
package enum Event: Sendable {
  /// Sessions failed in this way; `count` since it was last told, `destination` of the last one, and the
  /// part of the upstream that it was about.
  case failures(Failure, count: UInt64, destination: Endpoint?, UpstreamPart)
  /// Captured traffic comes back to us; `culprit` sends it, as far as it is known.
  case loop(LoopCause, destination: SocketAddress)
  /// This member of the group was proved to take a handshake in one write, and a flow's has failed in a way
  /// that speaks against it.
  case pipeliningDoubted(member: Int)
  /// No flow goes through this member of the group any more, for this reason, until it answers again.
  case memberDown(Int, Failure, othersLive: Bool)
  /// Flows go through it again.
  case memberUp(Int)
  /// So has every other of the group.
  case datagramsRefused(DatagramRefusal)
  /// Accepting stopped because the descriptor budget is used up, or the kernel refused another.
  case acceptPaused(Errno?)
  /// What becomes of what is published; one for each connection at most, and one for each attempt.
  case exposure(ExposureEvent)
  /// After `drain`: a worker accepts nothing more, or has no session left.
  case drained
}

/// A hop of the chain that a member of the group is, both counted from 0.
package struct UpstreamPart: Hashable, Sendable {
  package let member: Int
  package let hop: Int

  package init(member: Int = 0, hop: Int = 0) {
    self.member = member
    self.hop = hop
  }
}

/// An upstream has refused to relay datagrams.
package struct DatagramRefusal: Hashable, Sendable {
  package let failure: HandshakeFailure
  package let part: UpstreamPart

  /// The same of a member of another number.
  package func renumbered(_ member: Int) -> DatagramRefusal {
    DatagramRefusal(failure: failure, part: UpstreamPart(member: member, hop: part.hop))
  }
}

/// How captured traffic came back to us.
package enum LoopCause: Hashable, Sendable {
  /// Somebody connects to our listener itself instead of being redirected to it.
  case connectionToListener
  /// A connection to the upstream was captured: other rules than ours redirect it.
  case connectionToUpstream
  /// The program that serves as the upstream runs on this host and is captured itself.
  case upstreamProgram(name: String, processID: Int32)
  /// Our own outgoing connections are captured: other rules than ours redirect them.
  case ourselves

  /// Whether it comes of rules that are not ours.
  package var isForeign: Bool {
    switch self {
    case .connectionToUpstream, .ourselves: true
    case .connectionToListener, .upstreamProgram: false
    }
  }
}
