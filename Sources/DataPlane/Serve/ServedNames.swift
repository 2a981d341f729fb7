internal import Addressing

/// The names that one association sends to: addresses of those that were looked up, and datagrams that
/// wait for the others.
struct ServedNames {
  /// Names that are remembered at most; then the oldest address is forgotten.
  static let maximumNames = 16
  /// Names that are looked up at the same time at most.
  static let maximumLookups = 4
  /// Datagrams that wait for one name at most …
  static let maximumWaiting = 8
  /// … and bytes that wait for all names together.
  static let maximumWaitingBytes = 128 * 1024

  struct Waiting: Equatable {
    let port: UInt16
    let payload: [UInt8]
  }

  private struct Entry {
    let name: HostName
    /// Nil while it is looked up.
    var address: IPAddress?
    var waiting: [Waiting] = []
  }

  /// What is to be done with a datagram to a name.
  enum Answer: Equatable {
    case send(IPAddress)
    /// It waits for a look-up that goes on.
    case waits
    /// It waits; look the name up, and then call `takeWaiting`.
    case lookUp
    /// Too much is waiting: drop it.
    case full
  }

  /// In the order in which they were first asked for.
  private var entries: [Entry] = []
  private var waitingBytes = 0

  var waitingCount: Int { entries.reduce(0) { $0 + $1.waiting.count } }

  /// A datagram is to go to `name`; its payload is copied if it has to wait.
  mutating func handle(
    _ payload: UnsafeRawBufferPointer, to name: HostName, port: UInt16
  ) -> Answer {
    let index = entries.firstIndex { $0.name == name }
    if let index, let address = entries[index].address { return .send(address) }
    guard waitingBytes + payload.count <= Self.maximumWaitingBytes else { return .full }
    guard let index else { return begin(payload, to: name, port: port) }
    guard entries[index].waiting.count < Self.maximumWaiting else { return .full }
    wait(payload, port: port, at: index)
    return .waits
  }

  /// What has waited for `name`, which has this address now; nil if there is none, and the next
  /// datagram will ask anew.
  mutating func takeWaiting(for name: HostName, address: IPAddress?) -> [Waiting] {
    guard let index = entries.firstIndex(where: { $0.name == name && $0.address == nil }) else {
      return []
    }
    let waiting = entries[index].waiting
    waitingBytes -= waiting.reduce(0) { $0 + $1.payload.count }
    if let address {
      entries[index].address = address
      entries[index].waiting = []
    } else {
      entries.remove(at: index)
    }
    return waiting
  }

  private mutating func begin(
    _ payload: UnsafeRawBufferPointer, to name: HostName, port: UInt16
  ) -> Answer {
    guard entries.count(where: { $0.address == nil }) < Self.maximumLookups else { return .full }
    if entries.count == Self.maximumNames,
      let oldest = entries.firstIndex(where: { $0.address != nil })
    {
      entries.remove(at: oldest)
    }
    entries.append(Entry(name: name))
    wait(payload, port: port, at: entries.count - 1)
    return .lookUp
  }

  private mutating func wait(_ payload: UnsafeRawBufferPointer, port: UInt16, at index: Int) {
    entries[index].waiting.append(Waiting(port: port, payload: Array(payload)))
    waitingBytes += payload.count
  }
}
