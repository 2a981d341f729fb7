import Addressing
import Glibc
import LinuxIO
import TestSupport
import Testing

@testable import DataPlane

/// Two connected TCP sockets on loopback.
private struct Connection: ~Copyable {
  let near: Descriptor
  let far: Descriptor

  init() throws {
    let listener = try StreamSocket.listen(
      on: SocketAddress(.v4(.loopback), 0), .init())
    guard let address = listener.localAddress else { throw Errno.addressNotAvailable }
    let connecting = try StreamSocket.connect(to: address, mark: nil)
    guard connecting.wait(for: .writable, until: .now() + .seconds(5)) else { throw Errno.timedOut }
    guard case .connection(let accepted, _) = StreamSocket.accept(from: listener) else {
      throw Errno.connectionAborted
    }
    near = connecting
    far = accepted
  }
}

extension Interest {
  /// EPOLLRDHUP alone.
  fileprivate static let theEnd = Interest(rawValue: 0x2000)
}

/// A direction between two connections, whose far ends the test holds.
private final class Rig {
  let source: Connection
  let sink: Connection
  var sourceReadiness: Readiness = [.readable, .writable]
  var sinkReadiness: Readiness = [.readable, .writable]
  var half = HalfDuplex()
  var resources: RelayResources
  var moved = 0

  init() throws {
    source = try Connection()
    sink = try Connection()
    resources = RelayResources(budget: DescriptorBudget(limit: 100), leavesPacing: true)
  }

  func pump(keepsSinkOpen: Bool = false) -> HalfDuplex.Progress {
    half.pump(
      from: source.near.rawValue, &sourceReadiness, to: sink.near.rawValue, &sinkReadiness,
      keepsSinkOpen: keepsSinkOpen, with: &resources, moved: &moved)
  }

  /// What an event would tell after a change at the far ends.
  func becomeReady() {
    sourceReadiness.formUnion([.readable, .writable])
    sinkReadiness.formUnion([.readable, .writable])
  }

  /// Sends `bytes` and the end, of which the source hears at once; with an urgent mark on the last of the
  /// first `urgent`, if there are any.
  func feedAll(_ bytes: [UInt8], urgent: Int = 0) {
    if urgent > 0 {
      #expect(Glibc.send(source.far.rawValue, bytes, urgent, Int32(MSG_OOB)) == urgent)
    }
    #expect(feed(bytes[urgent...]) == bytes.count - urgent)
    StreamSocket.shutdownSending(source.far.rawValue)
    let isHeard = source.near.wait(for: .theEnd, until: .now() + .seconds(5))
    #expect(isHeard)
    sourceReadiness.insert(.readClosed)
    if urgent > 0 { sourceReadiness.insert(.urgent) }
  }

  /// Whether something arrives at the sink's far end in this time.
  func hasDelivered(_ interest: Interest, within timeout: Timeout) -> Bool {
    sink.far.wait(for: interest, until: .now() + timeout)
  }

  /// Segments that the sink's far end has received: tcpi_segs_in of struct tcp_info (<linux/tcp.h>).
  var segmentsReceived: UInt32 {
    var info = [UInt32](repeating: 0, count: 36)
    var length = socklen_t(info.count * MemoryLayout<UInt32>.size)
    #expect(getsockopt(sink.far.rawValue, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0)
    return info[35]
  }

  /// Sends as much of `bytes` as fits from the source's far end; returns how much.
  func feed(_ bytes: ArraySlice<UInt8>) -> Int {
    bytes.withUnsafeBytes {
      if case .bytes(let count) = send(source.far.rawValue, $0) { return count }
      return 0
    }
  }

  /// Takes what has arrived at the sink's far end, at most `limit` bytes.
  func drain(atMost limit: Int = .max) -> [UInt8] {
    var taken: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while taken.count < limit {
      let count = chunk.withUnsafeMutableBytes { buffer -> Int in
        let room = UnsafeMutableRawBufferPointer(
          rebasing: buffer[..<min(buffer.count, limit - taken.count)])
        if case .bytes(let count) = receive(sink.far.rawValue, into: room) { return count }
        return 0
      }
      if count == 0 { break }
      taken += chunk[..<count]
    }
    return taken
  }
}

struct HalfDuplexTests {
  /// Random sizes in, random sizes out, with a sink that is slower than the source: copying, splicing
  /// and both ways of holding back are all passed through, and every byte comes out in its place.
  @Test(arguments: 1...6 as ClosedRange<UInt64>)
  func everyByteInOrder(seed: UInt64) throws {
    var random = SplitMix(seed: seed)
    let rig = try Rig()
    let total = 8 << 20
    let input = (0..<total).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    var fed = 0
    var output: [UInt8] = []
    while output.count < total {
      if fed < total {
        let size = Int(random.next(below: 1 << random.next(below: 21)))
        fed += rig.feed(input[fed..<min(total, fed + size)])
        if fed == total { StreamSocket.shutdownSending(rig.source.far.rawValue) }
      }
      rig.becomeReady()
      switch rig.pump() {
      case .sourceFailed(let error), .sinkFailed(let error): Issue.record("\(error)")
      case .blocked, .yielded, .ended: break
      }
      if random.next(below: 3) > 0 {
        output += rig.drain(atMost: Int(random.next(below: 1 << random.next(below: 21))))
      }
    }
    rig.becomeReady()
    if case .ended = rig.pump() {} else { Issue.record("the end did not come through") }
    #expect(output == input)
    #expect(rig.moved == total)
    #expect(rig.half.hasEnded)
  }

  /// A sink that reads nothing stops the source: what is in between stays bounded.
  @Test func backPressureIsBounded() throws {
    let rig = try Rig()
    let chunk = [UInt8](repeating: 7, count: 1 << 20)
    var stalls = 0
    var fed = 0
    while stalls < 3 {
      let count = rig.feed(chunk[...])
      fed += count
      stalls = count == 0 ? stalls + 1 : 0
      rig.sourceReadiness.formUnion(.readable)
      _ = rig.pump()
      #expect(fed < 64 << 20, "nothing holds the source back")
      if fed >= 64 << 20 { break }
    }
    #expect(rig.moved < fed)
    let before = rig.moved
    _ = rig.drain()
    rig.becomeReady()
    _ = rig.pump()
    #expect(rig.moved > before)
  }

  /// Nothing is read from the source while the sink is not writable: no memory is held for it.
  @Test func readsNothingForABlockedSink() throws {
    let rig = try Rig()
    #expect(rig.feed([1, 2, 3]) == 3)
    rig.sinkReadiness = []
    if case .blocked = rig.pump() {} else { Issue.record("expected to block") }
    #expect(rig.sourceReadiness.contains(.readable))
    #expect(rig.moved == 0)
    rig.becomeReady()
    _ = rig.pump()
    #expect(rig.moved == 3)
    #expect(rig.drain() == [1, 2, 3])
  }

  /// A direction that keeps filling the scratch buffer borrows a pipe, and loses it when it is quiet.
  @Test func pipeIsBorrowedForBulkOnly() throws {
    let rig = try Rig()
    let chunk = [UInt8](repeating: 1, count: 256 * 1024)
    #expect(rig.feed(chunk[..<1000]) == 1000)
    _ = rig.pump()
    #expect(rig.resources.pipes.lentCount == 0)
    for _ in 0..<8 {
      _ = rig.feed(chunk[...])
      rig.becomeReady()
      _ = rig.pump()
      _ = rig.drain()
    }
    #expect(rig.resources.pipes.lentCount == 1)
    rig.half.giveBackIdlePipe(&rig.resources)
    #expect(rig.resources.pipes.lentCount == 1)
    rig.half.giveBackIdlePipe(&rig.resources)
    #expect(rig.resources.pipes.lentCount == 0)
    let isKept = !rig.resources.pipes.isEmpty
    #expect(isKept)
    rig.resources.pipes.closeIdle()
    let isClosed = rig.resources.pipes.isEmpty
    #expect(isClosed)
  }

  /// The last bytes and the end behind them are one segment.
  @Test func endTravelsWithTheLastBytes() throws {
    let rig = try Rig()
    let before = rig.segmentsReceived
    rig.feedAll([1, 2, 3])
    if case .ended = rig.pump() {} else { Issue.record("the end did not come through") }
    #expect(rig.hasDelivered(.theEnd, within: .seconds(5)))
    #expect(rig.segmentsReceived == before + 1)
    #expect(rig.drain() == [1, 2, 3])
    #expect(rig.moved == 3)
  }

  /// A sink that stays open does not wait for an end that will not come.
  @Test func lastBytesToASinkKeptOpenGoAtOnce() throws {
    let rig = try Rig()
    rig.feedAll([1, 2, 3])
    if case .ended = rig.pump(keepsSinkOpen: true) {} else { Issue.record("not ended") }
    #expect(rig.drain() == [1, 2, 3])
    #expect(!rig.hasDelivered(.theEnd, within: .seconds(0)))
  }

  /// A read ends at an urgent mark as well, and there is more behind it.
  @Test func bytesBehindAnUrgentMarkComeThrough() throws {
    let rig = try Rig()
    rig.feedAll([1, 2, 3, 4, 5, 6], urgent: 3)
    if case .ended = rig.pump() {} else { Issue.record("the end did not come through") }
    #expect(rig.hasDelivered(.theEnd, within: .seconds(5)))
    #expect(rig.drain() == [1, 2, 4, 5, 6])
  }

  /// Bytes that were read before the relay began go first.
  @Test func heldBytesGoFirst() throws {
    let rig = try Rig()
    #expect(rig.feed([4, 5]) == 2)
    ([1, 2, 3] as [UInt8]).withUnsafeBytes { rig.half.hold($0, &rig.resources) }
    _ = rig.pump()
    #expect(rig.drain() == [1, 2, 3, 4, 5])
  }
}
