import Addressing
import SOCKS
import TestSupport
import Testing

/// Our client against our server, over two streams in memory that deliver in random pieces.
struct ClientServerTests {
  private struct Conversation {
    var client: Client
    var server: Server
    var generator: SplitMix
    /// How much of the other's output each has received.
    var clientReceived = 0
    var serverReceived = 0
    var clientAction = ClientHandshake.Action.receive
    var serverAction = ServerHandshake.Action.receive

    /// What the target says behind a reply that succeeded.
    let targetData = hex("BE EF 00")

    /// Runs until both have ended or neither can go on.
    mutating func run(reply: ReplyCode, bound: SocketAddress) {
      var serverSays: [UInt8] {
        server.sent + (hasReplied && reply == .succeeded ? targetData : [])
      }
      var hasReplied = false
      while true {
        let toServer = piece(of: client.sent, from: serverReceived)
        if serverAction == .receive {
          let (consumed, action) = server.receive(toServer)
          serverReceived += consumed
          serverAction = action
          switch action {
          case .connect, .associate, .bind:
            server.reply(reply, bound: bound)
            hasReplied = true
          case .receive, .reject: break
          }
        }
        let toClient = piece(of: serverSays, from: clientReceived)
        if clientAction == .receive {
          let (consumed, action) = client.receive(toClient)
          clientReceived += consumed
          clientAction = action
        }
        let isServerIdle = serverAction != .receive || serverReceived == client.sent.count
        let isClientIdle = clientAction != .receive || clientReceived == serverSays.count
        if isServerIdle && isClientIdle { return }
      }
    }

    private mutating func piece(of stream: [UInt8], from offset: Int) -> [UInt8] {
      let left = stream.count - offset
      let count = Int.random(in: 0...left, using: &generator)
      return Array(stream[offset..<offset + count])
    }
  }

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined], 0..<4)
  func established(mode: ClientHandshake.Mode, seed: UInt64) {
    let bounds = [
      noAddress, SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 1080),
      SocketAddress(.v6(.loopback), 65535),
    ]
    for (index, destination) in destinations.enumerated() {
      for login in logins {
        for bound in bounds {
          var conversation = Conversation(
            client: Client(to: destination, login, mode), server: Server(login),
            generator: SplitMix(seed: seed << 8 | UInt64(index)))
          conversation.run(reply: .succeeded, bound: bound)
          #expect(conversation.serverAction == .connect(destination))
          #expect(conversation.clientAction == .established)
          #expect(conversation.client.boundAddress == .address(bound))
          #expect(conversation.serverReceived == conversation.client.sent.count)
          #expect(conversation.clientReceived == conversation.server.sent.count)
        }
      }
    }
  }

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined], 0..<4)
  func associated(mode: ClientHandshake.Mode, seed: UInt64) {
    let bound = SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 1080)
    for (index, client) in destinations.enumerated() {
      for login in logins {
        var conversation = Conversation(
          client: Client(.udpAssociate, to: client, login, mode),
          server: Server(login, relaysDatagrams: true),
          generator: SplitMix(seed: seed << 8 | UInt64(index)))
        conversation.run(reply: .succeeded, bound: bound)
        #expect(conversation.serverAction == .associate(client))
        #expect(conversation.clientAction == .established)
        #expect(conversation.client.boundAddress == .address(bound))
      }
    }
  }

  @Test func associationWhereThereIsNone() {
    var conversation = Conversation(
      client: Client(.udpAssociate, to: destinations[0], nil, .stepwise), server: Server(nil),
      generator: SplitMix(seed: 1))
    conversation.run(reply: .succeeded, bound: noAddress)
    #expect(conversation.serverAction == .reject)
    #expect(conversation.clientAction == .failed(.refused(.commandNotSupported)))
  }

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func refused(mode: ClientHandshake.Mode) {
    for rawValue in UInt8(1)...UInt8.max {
      let code = ReplyCode(rawValue: rawValue)
      var conversation = Conversation(
        client: Client(to: destinations[0], logins[1], mode), server: Server(logins[1]),
        generator: SplitMix(seed: UInt64(rawValue)))
      conversation.run(reply: code, bound: noAddress)
      #expect(conversation.clientAction == .failed(.refused(code)))
      #expect(conversation.server.rejection == .refused(code))
    }
  }

  @Test(
    arguments: [
      (ClientHandshake.Mode.stepwise, logins[1], logins[2], .authenticationRejected(status: 1)),
      (.pipelined, logins[1], logins[2], .authenticationRejected(status: 1)),
      (.stepwise, nil, logins[1], .noAcceptableMethod),
      (.pipelined, nil, logins[1], .noAcceptableMethod),
      (.pipelined, logins[1], nil, .noAcceptableMethod),
    ] as [(ClientHandshake.Mode, Credentials?, Credentials?, HandshakeFailure)])
  func turnedAway(
    mode: ClientHandshake.Mode, shown: Credentials?, expected: Credentials?,
    failure: HandshakeFailure
  ) {
    for seed in UInt64(0)..<20 {
      var conversation = Conversation(
        client: Client(to: destinations[0], shown, mode), server: Server(expected),
        generator: SplitMix(seed: seed))
      conversation.run(reply: .succeeded, bound: noAddress)
      #expect(conversation.serverAction == .reject)
      #expect(conversation.clientAction == .failed(failure))
    }
  }

  @Test func credentialsThatNobodyAskedFor() {
    var conversation = Conversation(
      client: Client(to: destinations[0], logins[1], .stepwise), server: Server(nil),
      generator: SplitMix(seed: 1))
    conversation.run(reply: .succeeded, bound: noAddress)
    #expect(conversation.clientAction == .established)
  }
}
