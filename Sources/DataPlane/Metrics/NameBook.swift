package import Addressing
internal import DNS
internal import Synchronization

/// The names of addresses, as captured clients were told them in answers to their DNS queries. All workers
/// share it. It is for people and for rules that they make: whoever answers a client can give any address any name.
package final class NameBook: Sendable {
  /// Addresses whose names are known; the one that has not been looked up for the longest time goes first.
  private static let maximumNames = 16_384

  private let names = Mutex(LearntNames(maximum: maximumNames))

  package init() {}

  /// Nil if no answer has been seen that has the address. What host names do not have is `\DDD`.
  package subscript(_ address: IPAddress) -> String? { names.withLock { $0[address] } }

  var bound: Bound {
    Bound("known names", used: names.withLock { $0.count }, limit: Self.maximumNames)
  }

  /// Learns from what may be an answer to a DNS query.
  func learn(from message: UnsafeRawBufferPointer) {
    guard let answer = NamedAddresses(message.bindMemory(to: UInt8.self).span) else { return }
    names.withLock { names in
      for address in answer.addresses { names.learn(answer.name, of: IPAddress(address)) }
    }
  }
}
