internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What one worker's served associations receive into and send from, one after the other; nothing in it
/// outlives a turn.
final class ServedBatch {
  /// Slots that one call fills at most …
  private static let slotsPerCall = 16
  /// … and bytes after which there is no further call in the same turn, so that one busy association
  /// does not starve its worker.
  private static let turnBytes = 512 * 1024

  private var reader = DatagramReader()
  var sender = DatagramSender()
  /// The family of the exit that `sender` collects for; nil if for none.
  var isCollectingIPv4: Bool?
  /// The header of the datagram before, and where it led to: most datagrams repeat it.
  private var lastHeader = UnsafeRawBufferPointer(start: nil, count: 0)
  private var lastTarget: SocketAddress?

  /// Fills slots from the first on: until nothing more is there, none is left, or the turn's share has
  /// come. Returns how many.
  func receive(from socket: Int32) -> Int {
    // Its memory gets other contents.
    lastTarget = nil
    var count = 0
    var bytes = 0
    while count < DatagramReader.slots, bytes < Self.turnBytes {
      // An error tells of something that was sent earlier, and that is its receiver's affair.
      guard
        case .slots(let filled, let filledBytes) = reader.receive(
          from: socket, into: count..<count + Self.slotsPerCall)
      else { return count }
      count += filled
      bytes += filledBytes
      if filled < Self.slotsPerCall { return count }
    }
    return count
  }

  /// What lies in a slot that the last `receive` has filled.
  func received(at slot: Int) -> DatagramReader.Received { reader.received(at: slot) }

  /// Where a datagram leads to if it begins like the one before, and where its payload begins.
  func repeated(in datagram: UnsafeRawBufferPointer) -> (target: SocketAddress, headerBytes: Int)? {
    guard let lastTarget, datagram.count >= lastHeader.count else { return nil }
    // A header tells where it ends: whatever begins with the same bytes has the same one.
    for index in 0..<lastHeader.count where datagram[index] != lastHeader[index] { return nil }
    return (lastTarget, lastHeader.count)
  }

  /// Remembers a header, whose memory stays until the next `receive`.
  func remember(_ header: UnsafeRawBufferPointer, _ target: SocketAddress) {
    (lastHeader, lastTarget) = (header, target)
  }
}

/// One turn of an association: what its steps need.
struct ServedTurn {
  /// Of its session.
  let index: Int
  let association: ServedAssociation
  let batch: ServedBatch
}
