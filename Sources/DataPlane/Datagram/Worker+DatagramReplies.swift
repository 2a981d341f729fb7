internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What comes back from the relays, on its way to the clients.
extension Worker {
  func handleRelay(_ token: Token) {
    guard let association = datagrams.associations.slots.find(token),
      let socket = association.pointee.relay?.rawValue
    else { return }
    if datagrams.replies.usedSlots + ReplyPath.slotsPerReceipt > DatagramReader.slots {
      flushReplies()
    }
    let first = datagrams.replies.usedSlots
    switch datagrams.replies.reader.receive(
      from: socket, into: first..<first + ReplyPath.slotsPerReceipt)
    {
    case .wouldBlock: return
    case .failed:
      // Some relays pass on that their target has refused: this says nothing of the association, but
      // no answer will come.
      rescueQueries(of: association, sentUpTo: now)
    case .slots(let count, _):
      datagrams.replies.usedSlots += count
      let nested = association.pointee.nested
      for slot in first..<first + count {
        datagrams.replies.reader.received(at: slot).forEachDatagram { datagram in
          if let nested {
            reply(with: datagram, through: nested, to: token.index)
          } else if let channel = datagramChannel(of: association) {
            reply(with: datagram, through: channel, to: token.index)
          } else {
            reply(with: datagram, to: token.index)
          }
        }
      }
    }
  }

  private func reply(
    with datagram: UnsafeRawBufferPointer, through nested: NestedAssociation, to index: Int
  ) {
    do {
      reply(with: try nested.unwrap(datagram), to: index)
    } catch {
      counters.add(error)
    }
  }

  private func reply(
    with message: UnsafeRawBufferPointer, through channel: ProtectedChannel, to index: Int
  ) {
    guard let datagram = unwrapped(message, by: channel) else { return }
    datagram.withUnsafeBytes { reply(with: $0, to: index) }
    // What is sent must not outlive the bytes.
    sendReplies()
  }

  private func reply(
    with datagram: UnsafeRawBufferPointer, to index: Int
  ) {
    let association = datagrams.associations.slots[index]
    let header: DatagramHeader
    do throws(DatagramHeader.Problem) {
      header = try DatagramHeader.decode(from: datagram.bindMemory(to: UInt8.self).span)
    } catch {
      counters.add(DatagramDrop(error))
      return
    }
    // A name could only be told if we had asked for it by name.
    guard case .address(let reported) = header.endpoint else {
      counters.add(.malformed)
      return
    }
    let payload = UnsafeRawBufferPointer(rebasing: datagram[header.bytes...])
    // What a resolver answers comes from wherever the client has asked, the loopback included.
    let asked =
      association.pointee.queries.isEmpty
      ? nil : sourceOfAnswer(payload, from: reported.unmapped, of: association)
    let source = asked ?? reported.unmapped
    guard asked != nil || source.isPossibleSource else {
      counters.add(.sourceNotAllowed)
      return
    }
    let client = association.pointee.client
    guard source.address.isIPv4 == client.address.isIPv4 else {
      counters.add(.wrongFamily)
      return
    }
    guard payload.count <= UDPHeader.maximumPayloadBytes else {
      counters.add(.tooLarge)
      return
    }
    association.pointee.lastActivity = now
    datagrams.associations.touch(index)
    if !association.pointee.isReplied {
      association.pointee.isReplied = true
      member(of: association)?.hasRelayAnswered = true
      scheduleIdle(index)
    }
    association.pointee.received &+= UInt64(payload.count)
    if source.port == Self.dnsPort { configuration.names?.learn(from: payload) }
    if let audit = configuration.audit {
      auditDatagrams(association, with: source, received: payload.count, in: audit)
      if source.port == Self.dnsPort { audit.learn(from: payload) }
    }
    append(payload, from: source, to: client)
  }

  private func append(
    _ payload: UnsafeRawBufferPointer, from source: SocketAddress, to client: SocketAddress
  ) {
    if datagrams.replies.isFull(isIPv4: client.address.isIPv4) { sendReplies() }
    datagrams.replies.append(payload, from: source, to: client)
    counters.add(to: .datagramsDownstream)
    counters.add(payload.count, to: .datagramBytesDownstream)
  }

  /// Sends an answer that was got in another way.
  func deliver(
    _ payload: UnsafeRawBufferPointer, from source: SocketAddress, to client: SocketAddress
  ) {
    append(payload, from: source, to: client)
    // What is sent must not outlive the caller's bytes.
    sendReplies()
  }

  /// Sends what the turn has collected.
  func flushReplies() {
    if !datagrams.replies.isEmpty { sendReplies() }
    datagrams.replies.usedSlots = 0
  }

  private func sendReplies() {
    let unsent = datagrams.replies.flush()
    if unsent > 0 { counters.add(.unsent, count: unsent) }
  }
}
