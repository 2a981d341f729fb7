/// Which flow of a run is meant, now and for ever: its worker, its slot there and which tenant of that slot it
/// is. As text `t0.17.3`, and of datagrams `u0.17.3`.
package struct FlowIdentifier: Hashable, Sendable {
  package enum Transport: String, Hashable, Sendable, CaseIterable { case tcp, udp }

  package let transport: Transport
  package let worker: Int
  let index: Int
  let generation: UInt32

  init(_ transport: Transport, worker: Int, index: Int, generation: UInt32) {
    (self.transport, self.worker) = (transport, worker)
    (self.index, self.generation) = (index, generation)
  }
}

extension FlowIdentifier: CustomStringConvertible, LosslessStringConvertible {
  /// Slots that a token can name.
  private static let maximumIndex = 0xFFF_FFFF

  package init?(_ text: String) {
    let parts = text.dropFirst().split(separator: ".", omittingEmptySubsequences: false)
    guard let transport = Transport.allCases.first(where: { text.first == $0.letter }),
      parts.count == 3, parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }),
      let worker = Int(parts[0]), let index = Int(parts[1]), index <= Self.maximumIndex,
      let generation = UInt32(parts[2])
    else { return nil }
    self.init(transport, worker: worker, index: index, generation: generation)
  }

  package var description: String { "\(transport.letter)\(worker).\(index).\(generation)" }
}

extension FlowIdentifier.Transport {
  fileprivate var letter: Character { self == .tcp ? "t" : "u" }
}
