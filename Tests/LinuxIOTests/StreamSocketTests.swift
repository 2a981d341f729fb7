import Addressing
import Testing

@testable import LinuxIO

struct StreamSocketTests {
  /// Accept and connect agree about the addresses, in both families, and bytes go through.
  @Test(arguments: [IPAddress.v4(.loopback), .v6(.loopback)])
  func connectsAndAccepts(host: IPAddress) throws {
    let listener = try StreamSocket.listen(on: SocketAddress(host, 0), .init())
    let local = listener.localAddress
    let address = try #require(local)
    #expect(address.address == host)
    let client = try StreamSocket.connect(to: address, mark: nil)
    let isConnected = client.wait(for: .writable, until: .now() + .seconds(5))
    try #require(isConnected)
    let clientError = client.pendingError
    #expect(clientError == nil)
    guard case .connection(let server, let peer) = StreamSocket.accept(from: listener) else {
      Issue.record("nothing to accept")
      return
    }
    let clientAddress = client.localAddress
    #expect(peer == clientAddress)

    let sent = ([1, 2, 3] as [UInt8]).withUnsafeBytes { send(client.rawValue, $0) }
    guard case .bytes(3) = sent else {
      Issue.record("\(sent)")
      return
    }
    let isReadable = server.wait(for: .readable, until: .now() + .seconds(5))
    #expect(isReadable)
    var buffer = [UInt8](repeating: 0, count: 8)
    let received = buffer.withUnsafeMutableBytes { receive(server.rawValue, into: $0) }
    guard case .bytes(3) = received else {
      Issue.record("\(received)")
      return
    }
    #expect(buffer == [1, 2, 3, 0, 0, 0, 0, 0])
    let again = buffer.withUnsafeMutableBytes { receive(server.rawValue, into: $0) }
    guard case .wouldBlock = again else {
      Issue.record("\(again)")
      return
    }
  }

  @Test func refusedConnectionIsAPendingError() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    let address = reservation.localAddress
    let client = try StreamSocket.connect(to: try #require(address), mark: nil)
    let isDone = client.wait(for: .writable, until: .now() + .seconds(5))
    let error = client.pendingError
    #expect(isDone)
    #expect(error == .connectionRefused)
  }

  /// A port is not free while somebody listens, even if he would share it.
  @Test func aSharedListenerIsNotFree() throws {
    let listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
    let local = listener.localAddress
    let address = try #require(local)
    #expect(throws: Errno.addressInUse) { try StreamSocket.checkFree(address) }
  }

  /// A connection that nothing redirected has no other destination than the listener, or none.
  @Test func directConnectionHasNoOriginalDestination() throws {
    let listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
    let local = listener.localAddress
    let address = try #require(local)
    let client = try StreamSocket.connect(to: address, mark: nil)
    let isConnected = client.wait(for: .writable, until: .now() + .seconds(5))
    try #require(isConnected)
    guard case .connection(let server, _) = StreamSocket.accept(from: listener) else {
      Issue.record("nothing to accept")
      return
    }
    do {
      let destination = try server.redirectedDestination(isIPv4: true)
      #expect(destination == OriginalDestination(address))
    } catch {
      #expect(error == .noEntry || error == .protocolNotAvailable)
    }
    let transparent = try server.transparentDestination()
    #expect(transparent == OriginalDestination(address))
  }

  @Test func socketOwnerFindsThisProcess() throws {
    let listener = try StreamSocket.listen(on: SocketAddress(.v6(.loopback), 0), .init())
    let local = listener.localAddress
    let address = try #require(local)
    let owner = try #require(SocketOwner.listening(on: address))
    #expect(owner.isOurselves)
    #expect(!owner.name.isEmpty && !owner.name.contains("/"))

    let client = try StreamSocket.connect(to: address, mark: nil)
    let clientAddress = client.localAddress
    #expect(SocketOwner.connected(from: try #require(clientAddress), to: address) == owner)
    #expect(SocketOwner.connected(from: address, to: SocketAddress(.v4(.any), 1)) == nil)
  }

  @Test func socketOwnerOfDatagramsIsOfThisHost() throws {
    let socket = try DatagramSocket.bind(to: SocketAddress(.v4(.any), 0), .init())
    let local = socket.localAddress
    let port = try #require(local).port
    let owner = SocketOwner.ofDatagrams(at: SocketAddress(.v4(.loopback), port))
    #expect(owner?.isOurselves == true)
    // Another host of a LAN that has the same port.
    let stranger = IPAddress.v4(IPv4Address(bits: 0xC000_0201))
    #expect(SocketOwner.ofDatagrams(at: SocketAddress(stranger, port)) == nil)
  }
}
