/// What a captured connection goes through until its program hears something of the other side.
package enum FlowPhase: Int, CaseIterable, Sendable {
  /// The connection to the upstream; not of one that was kept ready.
  case connect
  /// Everything up to the request, the answer to the greeting included, and in a chain all hops but the
  /// last. Only of protocols that have it, and where it is not answered along with the request.
  case authentication
  /// The reply, for which the upstream connects to the destination.
  case request
  /// From there to the first byte that comes through.
  case firstByte

  /// As metrics show it.
  package var name: String {
    switch self {
    case .connect: "connect"
    case .authentication: "authentication"
    case .request: "request"
    case .firstByte: "first_byte"
    }
  }
}
