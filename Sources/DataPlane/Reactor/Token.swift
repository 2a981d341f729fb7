/// What an epoll event belongs to: 4 bits of kind, 28 of index, 32 of generation.
///
/// A slot's generation grows whenever its session closes, so an event that was already on its way
/// when the session went finds nobody, not the slot's next tenant.
struct Token: Hashable {
  enum Kind: UInt64 {
    case downstream = 0
    case upstream = 1
    case listener = 2
    case waker = 3
    case associationControl = 4
    case associationRelay = 5
    case datagramListener = 6
    case servedRelay = 7
    case resolver = 8
    case servedExit = 9
    case servedExitV6 = 10
    case contender = 11
    case associationLeg = 12
    case pooled = 13
  }

  let rawValue: UInt64

  init(rawValue: UInt64) { self.rawValue = rawValue }

  init(_ kind: Kind, index: Int, generation: UInt32 = 0) {
    rawValue = UInt64(generation) << 32 | UInt64(truncatingIfNeeded: index) << 4 | kind.rawValue
  }

  /// Of the control connection with one hop of a chain: the index has the hop in its last 3 bits.
  init(legTo hop: Int, ofAssociation index: Int, generation: UInt32) {
    precondition(hop < 8)
    self.init(.associationLeg, index: index << 3 | hop, generation: generation)
  }

  /// The hop and the association of such a token.
  var leg: (hop: Int, association: Token) {
    (index & 7, Token(.associationControl, index: index >> 3, generation: generation))
  }

  var kind: Kind { Kind(rawValue: rawValue & 15)! }
  var index: Int { Int(rawValue >> 4 & 0xFFF_FFFF) }
  var generation: UInt32 { UInt32(rawValue >> 32) }
}
