import Addressing
import Glibc
import LinuxIO
import Testing

/// Sockets of this process, which anybody may ask for.
struct SocketOwnersTests {
  private static let loopbacks: [IPAddress] = [.v4(.loopback), .v6(.loopback)]

  private func check(_ owner: SocketOwners.Owner?, _ owners: SocketOwners) throws {
    let owner = try #require(owner)
    #expect(owner.user == geteuid())
    #expect(owners.group(of: owner) == getegid())
    let group = try #require(owner.controlGroup)
    let path = owners.path(ofControlGroup: group)
    #expect(path == ControlGroups.absolutePath(ofProcess: getpid()))
    #expect(owners.path(ofControlGroup: group) == path)
  }

  @Test(arguments: loopbacks)
  func connections(_ address: IPAddress) throws {
    let owners = try SocketOwners()
    let listener = try StreamSocket.listen(on: SocketAddress(address, 0), .init())
    let listening = listener.localAddress
    let place = try #require(listening)
    do {
      let socket = try StreamSocket.connect(to: place, mark: nil)
      let isConnected = socket.wait(for: .writable, until: .now() + .seconds(5))
      #expect(isConnected)
      let bound = socket.localAddress
      let local = try #require(bound)
      try check(owners.owner(of: .stream, at: local, to: place), owners)
      #expect(
        owners.owner(of: .stream, at: local, to: SocketAddress(place.address, place.port ^ 1))
          == nil)
      #expect(owners.owner(of: .datagrams, at: local, to: place) == nil)
      withExtendedLifetime(socket) {}
    }
    withExtendedLifetime(listener) {}
  }

  @Test(arguments: loopbacks)
  func datagrams(_ address: IPAddress) throws {
    let owners = try SocketOwners()
    let target = try DatagramSocket.bind(to: SocketAddress(address, 0), .init())
    let bound = target.localAddress
    let place = try #require(bound)
    let other = SocketAddress(address, 9)
    try check(owners.owner(of: .datagrams, at: place, to: other), owners)
    withExtendedLifetime(target) {}
  }

  @Test func groupsWithoutAPath() throws {
    let owners = try SocketOwners()
    #expect(owners.path(ofControlGroup: 1 << 62) == "\(1 << 62)")
    #expect(owners.path(ofControlGroup: 1 << 62) == "\(1 << 62)")
  }
}
