internal import Addressing
internal import LinuxIO
internal import SOCKS

/// Captured datagrams on their way to the upstream.
extension Worker {
  /// Batches taken from one listener per turn at most.
  private static let batchesPerTurn = 4
  static let dnsPort: UInt16 = 53

  /// Opens this worker's socket of a datagram listener, and that of its answers.
  func openDatagrams(on address: SocketAddress) throws(Errno) {
    let isIPv4 = address.address.isIPv4
    let listener = DatagramListener(try configuration.obtain(.datagrams(address)), on: address)
    datagrams.replies.use(try configuration.obtain(.replies(isIPv4: isIPv4)), isIPv4: isIPv4)
    try epoll.add(
      listener.socket.rawValue, .readable,
      token: Token(.datagramListener, index: isIPv4 ? 0 : 1).rawValue)
    if isIPv4 {
      datagramListenerV4 = consume listener
    } else {
      datagramListenerV6 = consume listener
    }
  }

  /// Takes what has arrived at a listener, and forwards it batch by batch.
  func receiveDatagrams(isIPv4: Bool) {
    let (socket, address) =
      isIPv4
      ? (datagramListenerV4?.socket.rawValue, datagramListenerV4?.address)
      : (datagramListenerV6?.socket.rawValue, datagramListenerV6?.address)
    guard let socket, let address else { return }
    var batches = 0
    receiving: while batches < Self.batchesPerTurn,
      datagrams.arrivals.count < DatagramStage.maximumReceipts
    {
      switch datagrams.reader.receive(from: socket, into: 0..<DatagramReader.slots) {
      case .wouldBlock, .failed: break receiving
      case .slots(let count, let bytes):
        let isStaged = datagrams.stage.isWorthwhile(count, bytes)
        countLost(before: count - 1, isIPv4: isIPv4)
        sort(count, arrivedAt: address, isStaged: isStaged)
        if isStaged { continue }
        forwardArrivals()
        if count < DatagramReader.slots { break receiving }
        batches += 1
      }
    }
    forwardArrivals()
  }

  /// Counts what the listener had no room for before the datagram in `slot` arrived.
  private func countLost(before slot: Int, isIPv4: Bool) {
    let total = datagrams.reader.received(at: slot).lost
    let lost =
      isIPv4
      ? datagramListenerV4?.newlyLost(of: total) : datagramListenerV6?.newlyLost(of: total)
    if let lost, lost > 0 { counters.add(.listenerFull, count: lost) }
  }

  /// Finds the association of each slot of a batch; queries that are carried over TCP go at once.
  private func sort(_ count: Int, arrivedAt listener: SocketAddress, isStaged: Bool) {
    var client: SocketAddress?
    var association: Int?
    let standard = configuration.group?.standard ?? MemberSet()
    var way = standard
    for slot in 0..<count {
      let received = datagrams.reader.received(at: slot)
      guard let source = received.source, let destination = received.destination?.address else {
        continue
      }
      if destination == listener {
        counters.add(.loop, count: received.count)
        reportLoop(.connectionToListener, OriginalDestination(destination))
        continue
      }
      var (members, rule) = (standard, RuleNumber.none)
      if let policy = configuration.policy {
        let verdict = datagramVerdict(of: policy, from: source, to: destination)
        guard case .upstreams(let some) = verdict.decision else {
          counters.add(.rejectedByRule, count: received.count)
          continue
        }
        // Queries are a matter of the standard ones.
        if destination.port != Self.dnsPort || configuration.datagrams?.dns == .ordinary {
          (members, rule) = (some, verdict.rule)
        }
      }
      if destination.port == Self.dnsPort, carriesOverStream(destination) {
        received.forEachDatagram { handOver($0, from: source, to: destination) }
        continue
      }
      if source != client || members != way {
        (client, way) = (source, members)
        association = findAssociation(of: source, to: destination, among: members, by: rule)
      }
      guard let association else {
        if destination.port == Self.dnsPort, mayCarryOverStream {
          received.forEachDatagram { handOver($0, from: source, to: destination) }
          continue
        }
        counters.add(.noAssociation, count: received.count)
        audit(failureAt: destination)
        continue
      }
      let bytes = isStaged ? datagrams.stage.add(received.bytes) : received.bytes
      link(
        DatagramResources.Arrival(
          bytes: bytes, segment: received.segment, destination: destination),
        to: association)
    }
  }

  private func link(_ arrival: DatagramResources.Arrival, to index: Int) {
    let association = datagrams.associations.slots[index]
    let slot = Int32(truncatingIfNeeded: datagrams.arrivals.count)
    datagrams.arrivals.append(arrival)
    if association.pointee.firstArrival < 0 {
      association.pointee.firstArrival = slot
      datagrams.touched.append(index)
    } else {
      datagrams.arrivals[Int(association.pointee.lastArrival)].next = slot
    }
    association.pointee.lastArrival = slot
  }

  private func forwardArrivals() {
    for index in datagrams.touched { forwardArrivals(of: index) }
    datagrams.touched.removeAll(keepingCapacity: true)
    datagrams.arrivals.removeAll(keepingCapacity: true)
    datagrams.stage.removeAll()
  }

  private func forwardArrivals(of index: Int) {
    let association = datagrams.associations.slots[index]
    var slot = association.pointee.firstArrival
    guard slot >= 0 else { return }  // Evicted since.
    association.pointee.firstArrival = -1
    association.pointee.lastActivity = now
    datagrams.associations.touch(index)
    let isOpen = association.pointee.state == .open
    if isOpen { beginSubmitting(association) }
    while slot >= 0 {
      let arrival = datagrams.arrivals[Int(slot)]
      if isOpen {
        submit(arrival.bytes, joinedEvery: arrival.segment, to: arrival.destination, of: index)
      } else {
        arrival.bytes.forEachDatagram(of: arrival.segment) { payload in
          keepWaiting(payload, to: arrival.destination, association)
        }
      }
      slot = arrival.next
    }
    if isOpen { finishSubmitting(association) }
  }

  /// Keeps a datagram until its association is open.
  private func keepWaiting(
    _ payload: UnsafeRawBufferPointer, to destination: SocketAddress,
    _ association: UnsafeMutablePointer<Association>
  ) {
    guard datagrams.waitingBytes + payload.count <= DatagramResources.maximumWaitingBytes,
      association.pointee.waiting.append(payload, to: destination)
    else {
      counters.add(.queueFull)
      return
    }
    datagrams.waitingBytes += payload.count
  }

  // MARK: To the relay

  func beginSubmitting(_ association: UnsafeMutablePointer<Association>) {
    guard let socket = association.pointee.relay?.rawValue else {
      preconditionFailure("an open association without a relay")
    }
    let limit = association.pointee.relayLimit
    if let nested = association.pointee.nested {
      datagrams.sender.begin(on: socket, limit: limit, prefix: nested.prefix)
    } else {
      datagrams.sender.begin(on: socket, limit: limit)
    }
  }

  /// Adds a datagram, or several that the kernel has joined, to what goes to the relay of an open
  /// association. The bytes must stay where they are until `finishSubmitting`.
  func submit(
    _ bytes: UnsafeRawBufferPointer, joinedEvery segment: Int, to destination: SocketAddress,
    of index: Int
  ) {
    datagrams.associations.slots[index].pointee.sent &+= UInt64(bytes.count)
    if let audit = configuration.audit {
      auditDatagrams(
        datagrams.associations.slots[index], with: destination, sent: bytes.count, in: audit)
    }
    var destination = destination
    if destination.port == Self.dnsPort, configuration.datagrams?.dns != .ordinary {
      bytes.forEachDatagram(of: segment) { noteQuery($0, to: destination, of: index) }
      destination = resolver(insteadOf: destination)
    } else {
      datagrams.associations.slots[index].pointee.isDNS = false
    }
    if destination != datagrams.headerDestination {
      datagrams.headerDestination = destination
      datagrams.header = EncodedHeader(destination)
    }
    let association = datagrams.associations.slots[index]
    if let channel = datagramChannel(of: association) {
      sendProtected(bytes, joinedEvery: segment, through: channel, association)
      return
    }
    let header = datagrams.header
    datagrams.sender.append(
      bytes, joinedEvery: segment, behind: header.bytes.span.extracting(first: header.count),
      to: nil)
  }

  /// Sends what was submitted.
  func finishSubmitting(_ association: UnsafeMutablePointer<Association>) {
    let outcome = datagrams.sender.finish()
    association.pointee.relayLimit = outcome.limit
    counters.add(outcome.sentCount, to: .datagramsUpstream)
    counters.add(outcome.sentBytes, to: .datagramBytesUpstream)
    if outcome.unsentCount > 0 { counters.add(.unsent, count: outcome.unsentCount) }
    if outcome.tooLargeCount > 0 { counters.add(.tooLarge, count: outcome.tooLargeCount) }
  }
}

extension UnsafeRawBufferPointer {
  /// Takes apart what the kernel has joined; `segment` is 0 for a single datagram.
  func forEachDatagram(of segment: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard segment > 0, count > segment else { return body(self) }
    for start in stride(from: 0, to: count, by: segment) {
      body(UnsafeRawBufferPointer(rebasing: self[start..<Swift.min(start + segment, count)]))
    }
  }
}

extension DatagramReader.Received {
  func forEachDatagram(_ body: (UnsafeRawBufferPointer) -> Void) {
    bytes.forEachDatagram(of: segment, body)
  }

  /// How many datagrams these are.
  var count: Int { segment > 0 ? (bytes.count + segment - 1) / segment : 1 }
}
