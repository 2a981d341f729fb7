import Addressing
import TestSupport
import Testing

@testable import DataPlane
@testable import LinuxIO

private struct Datagram {
  var payload: [UInt8]
  var header: [UInt8] = []
  var address: SocketAddress?
}

private func outcome(
  of datagrams: [Datagram], on socket: Int32, limit: SegmentLimit = SegmentLimit()
) -> DatagramSender.Outcome {
  var runs = DatagramSender()
  return send(datagrams, by: &runs, on: socket, limit: limit)
}

/// All payloads lie one behind the other, as those that arrive joined do.
private func send(
  _ datagrams: [Datagram], by runs: inout DatagramSender, on socket: Int32, limit: SegmentLimit
) -> DatagramSender.Outcome {
  let bytes = datagrams.flatMap(\.payload)
  return bytes.withUnsafeBytes { memory in
    runs.begin(on: socket, limit: limit)
    var offset = 0
    for datagram in datagrams {
      let end = offset + datagram.payload.count
      runs.append(
        UnsafeRawBufferPointer(rebasing: memory[offset..<end]), behind: datagram.header.span,
        to: datagram.address)
      offset = end
    }
    return runs.finish()
  }
}

private func bytes(_ count: Int, _ seed: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) }
}

private func lowered(below size: Int) -> SegmentLimit {
  var limit = SegmentLimit()
  limit.lower(below: size)
  return limit
}

struct DatagramSenderTests {
  private static let hosts: [IPAddress] = [.v4(.loopback), .v6(.loopback)]
  private static let headers: [[UInt8]] = [[], bytes(10, 1), bytes(22, 2)]

  @Test(arguments: hosts, headers)
  func equalSizesAreOneMessage(host: IPAddress, header: [UInt8]) throws {
    let target = try DatagramTarget(on: host)
    let sender = try DatagramSocket.open(for: target.address)
    let sent = (0..<20).map {
      Datagram(payload: bytes($0 < 19 ? 1200 : 7, $0), header: header, address: target.address)
    }
    let result = outcome(of: sent, on: sender.rawValue)
    #expect(result.sentCount == 20)
    #expect(result.sentBytes == 19 * 1200 + 7)
    let receipts = target.receipts()
    #expect(receipts.count == 1)
    #expect(receipts.first?.segment == 1200 + header.count)
    #expect(receipts.first?.bytes == sent.flatMap { $0.header + $0.payload })
  }

  /// What precedes all headers counts as much as they do, and is in each datagram of a run.
  @Test(arguments: hosts, [10, 44, 600])
  func headersBehindOthers(host: IPAddress, prefixBytes: Int) throws {
    let target = try DatagramTarget(on: host)
    let sender = try DatagramSocket.connect(to: target.address, .init())
    let prefix = bytes(prefixBytes, 5)
    var sent: [Datagram] = []
    for (size, header) in [(300, [1]), (1200, [1, 2]), (0, [1, 2])] as [(Int, [UInt8])] {
      sent += (0..<70).map { Datagram(payload: bytes(size, $0), header: header) }
    }
    let all = sent.flatMap(\.payload)
    let result = all.withUnsafeBytes { memory in
      prefix.withUnsafeBytes { prefix in
        var runs = DatagramSender()
        runs.begin(on: sender.rawValue, limit: SegmentLimit(), prefix: prefix)
        for (offset, count, segment, header) in [
          (0, 70 * 300, 300, [1]), (70 * 300, 70 * 1200, 1200, [1, 2]),
        ] as [(Int, Int, Int, [UInt8])] {
          let part = UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count])
          runs.append(part, joinedEvery: segment, behind: header.span, to: nil)
        }
        for _ in 0..<70 {
          runs.append(
            UnsafeRawBufferPointer(start: nil, count: 0), behind: [1, 2].span, to: nil)
        }
        return runs.finish()
      }
    }
    #expect(result.sentCount == 210)
    #expect(result.sentBytes == 70 * 1500)
    #expect(result.limit == SegmentLimit())
    #expect(target.receiveAll().map(\.payload) == sent.map { prefix + $0.header + $0.payload })
  }

  /// What fits without it does not fit with it.
  @Test func tooLargeWithWhatPrecedesTheHeader() throws {
    let target = try DatagramTarget()
    let sender = try DatagramSocket.connect(to: target.address, .init())
    let payload = bytes(65_507 - 30, 1)
    let prefix = bytes(20, 2)
    for (headerBytes, isSent) in [(10, true), (11, false)] {
      var runs = DatagramSender()
      let result = payload.withUnsafeBytes { payload in
        prefix.withUnsafeBytes { prefix in
          runs.begin(on: sender.rawValue, limit: SegmentLimit(), prefix: prefix)
          runs.append(payload, behind: bytes(headerBytes, 3).span, to: nil)
          return runs.finish()
        }
      }
      #expect(result.sentCount == (isSent ? 1 : 0))
      #expect(result.tooLargeCount == (isSent ? 0 : 1))
      #expect(target.receiveAll().count == (isSent ? 1 : 0))
    }
  }

  @Test(arguments: hosts)
  func toThePeerOfAConnectedSocket(host: IPAddress) throws {
    let target = try DatagramTarget(on: host)
    let sender = try DatagramSocket.connect(to: target.address, .init())
    let sent = (0..<3).map { Datagram(payload: bytes(100, $0), header: [9]) }
    #expect(outcome(of: sent, on: sender.rawValue).sentCount == 3)
    #expect(target.receiveAll().map(\.payload) == sent.map { $0.header + $0.payload })
  }

  /// Another size, another header and another target each end a run; order is kept at each target.
  @Test func runsEndWhereSomethingDiffers() throws {
    let (a, b) = (try DatagramTarget(), try DatagramTarget())
    let sender = try DatagramSocket.open(for: a.address)
    var sent: [Datagram] = []
    for (size, header, target) in [
      (10, [1], a), (10, [1], a), (10, [2], a), (11, [2], a), (4, [2], a), (4, [2], a), (0, [2], a),
      (0, [], a), (0, [], a), (5, [], a), (5, [], b), (5, [], b), (5, [], a),
    ] as [(Int, [UInt8], DatagramTarget)] {
      sent.append(
        Datagram(payload: bytes(size, sent.count), header: header, address: target.address))
    }
    #expect(outcome(of: sent, on: sender.rawValue).sentCount == sent.count)
    for target in [a, b] {
      #expect(
        target.receiveAll().map(\.payload)
          == sent.filter { $0.address == target.address }.map { $0.header + $0.payload })
    }
  }

  /// Random sizes, targets and headers, more than fit into one batch, and now and then no segmenting.
  @Test(arguments: 1...8 as ClosedRange<UInt64>)
  func everythingArrivesInOrder(seed: UInt64) throws {
    var random = SplitMix(seed: seed)
    let targets = [try DatagramTarget(), try DatagramTarget()]
    let sender = try DatagramSocket.open(for: targets[0].address)
    var runs = DatagramSender()
    for round in 0..<2 {
      var sent: [Datagram] = []
      while sent.count < 1500 {
        let size = [0, 1, 64, 300, 1200][Int(random.next(below: 5))]
        let address = targets[Int(random.next(below: 2))].address
        let header = bytes([0, 10, 22][Int(random.next(below: 3))], round)
        for _ in 0...random.next(below: 1 << random.next(below: 8)) {
          sent.append(
            Datagram(payload: bytes(size, sent.count), header: header, address: address))
        }
      }
      let limit = lowered(below: Int(random.next(below: 2)) == 0 ? 65_535 : 301)
      var rest = sent[...]
      while !rest.isEmpty {
        // What a target has not read yet fits its buffer.
        let part = rest.prefix(1 + Int(random.next(below: 1500)))
        let result = send(Array(part), by: &runs, on: sender.rawValue, limit: limit)
        #expect(
          result
            == DatagramSender.Outcome(
              sentCount: part.count, sentBytes: part.reduce(0) { $0 + $1.payload.count },
              limit: limit))
        for target in targets {
          let expected = part.filter { $0.address == target.address }
          #expect(target.receiveAll().map(\.payload) == expected.map { $0.header + $0.payload })
        }
        rest = rest.dropFirst(part.count)
      }
    }
  }

  /// What has arrived joined leaves joined, with a header before each.
  @Test(arguments: headers)
  func joinedDatagramsAreCut(header: [UInt8]) throws {
    let target = try DatagramTarget()
    let sender = try DatagramSocket.open(for: target.address)
    let joined = bytes(54 * 1200 + 17, 3)
    var runs = DatagramSender()
    runs.begin(on: sender.rawValue, limit: SegmentLimit())
    let result = joined.withUnsafeBytes {
      runs.append($0, joinedEvery: 1200, behind: header.span, to: target.address)
      return runs.finish()
    }
    #expect(result.sentCount == 55)
    let expected = stride(from: 0, to: joined.count, by: 1200).map {
      header + joined[$0..<min($0 + 1200, joined.count)]
    }
    #expect(target.receiveAll().map(\.payload) == expected)
  }

  @Test func largestDatagramsPassAndLargerAreCounted() throws {
    let target = try DatagramTarget()
    let sender = try DatagramSocket.open(for: target.address)
    let sent = [65_507, 65_497, 65_498, 65_507, 1, 60_000].map {
      Datagram(
        payload: bytes($0, $0), header: bytes($0 == 65_497 || $0 == 65_498 ? 10 : 0, 1),
        address: target.address)
    }
    let result = outcome(of: sent, on: sender.rawValue)
    #expect(result.sentCount == 5)
    #expect(result.tooLargeCount == 1)
    #expect(result.unsentCount == 0)
    var expected = sent.map { $0.header + $0.payload }
    expected.remove(at: 2)
    #expect(target.receiveAll().map(\.payload) == expected)
  }

  /// A socket without checksums cannot have its messages cut (EINVAL): they leave one by one, and only
  /// the first attempt is in vain.
  @Test func refusedSegmentsLeaveOneByOne() throws {
    let target = try DatagramTarget()
    let sender = try DatagramSocket.open(for: target.address)
    try sender.set(1, 11, 1)  // SOL_SOCKET, SO_NO_CHECK
    let sent = [40, 40, 40, 90, 90, 90, 90, 12, 12, 12].map {
      Datagram(payload: bytes($0, $0), header: [1, 2], address: target.address)
    }
    let first = outcome(of: sent, on: sender.rawValue)
    #expect(first.sentCount == sent.count)
    #expect(first.limit == lowered(below: 14))
    #expect(target.receiveAll().map(\.payload) == sent.map { $0.header + $0.payload })
    let second = outcome(of: sent, on: sender.rawValue, limit: first.limit)
    #expect(second.sentCount == sent.count)
    #expect(second.limit == first.limit)
    #expect(target.receiveAll().map(\.payload) == sent.map { $0.header + $0.payload })
  }

  /// The refusal of an earlier datagram does not cost a later one.
  @Test func pendingErrorIsNotTheNextDatagrams() throws {
    let address = try DatagramTarget().address
    let sender = try DatagramSocket.connect(to: address, .init())
    for _ in 0..<4 {
      let result = outcome(of: [Datagram(payload: [1])], on: sender.rawValue)
      #expect(result.sentCount == 1)
    }
  }

  /// A datagram that cannot leave does not keep others back.
  @Test func unsentIsCounted() throws {
    let target = try DatagramTarget()
    let sender = try DatagramSocket.open(for: target.address)
    let nowhere = SocketAddress(target.address.address, 0)
    let sent = [target.address, nowhere, target.address].map {
      Datagram(payload: [1, 2, 3], address: $0)
    }
    let result = outcome(of: sent, on: sender.rawValue)
    #expect(result.sentCount == 2)
    #expect(result.unsentCount == 1)
    #expect(target.receiveAll().map(\.payload) == [[1, 2, 3], [1, 2, 3]])
  }
}
