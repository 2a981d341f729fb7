/// The negotiations of one worker, by index. Those that are given back serve the next sessions; of a burst's
/// only some are kept, since each has room for whole messages.
struct NegotiationPool: ~Copyable {
  /// As many as are under way at once when connections come and go quickly.
  private static let mostSpare = 32

  private var places: [Negotiation?] = []
  private var spare: [Int32] = []
  private var vacant: [Int32] = []

  subscript(_ index: Int) -> Negotiation {
    guard let negotiation = places[index] else { preconditionFailure("it was given back") }
    return negotiation
  }

  mutating func take() -> Int32 {
    if let index = spare.popLast() { return index }
    if let index = vacant.popLast() {
      places[Int(index)] = Negotiation()
      return index
    }
    places.append(Negotiation())
    return Int32(places.count - 1)
  }

  mutating func giveBack(_ index: Int32) {
    guard spare.count < Self.mostSpare else {
      places[Int(index)] = nil
      vacant.append(index)
      return
    }
    self[Int(index)].reset()
    spare.append(index)
  }
}
