import Addressing
import Testing

@testable import DataPlane

struct RelayPlaceTests {
  /// What the server reports, where its control connection goes, and where datagrams should go then.
  @Test(arguments: [
    // As it should be.
    ("198.51.100.7:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("203.0.113.9:4000", "198.51.100.7:1080", "203.0.113.9:4000"),
    ("10.0.0.9:4000", "10.0.0.7:1080", "10.0.0.9:4000"),
    ("127.0.0.1:4000", "127.0.0.1:1080", "127.0.0.1:4000"),
    ("[2001:db8::9]:4000", "[2001:db8::7]:1080", "[2001:db8::9]:4000"),
    ("[::ffff:203.0.113.9]:4000", "198.51.100.7:1080", "203.0.113.9:4000"),
    // Unspecified.
    ("0.0.0.0:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("[::]:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("0.0.0.0:4000", "[2001:db8::7]:1080", "[2001:db8::7]:4000"),
    // Behind an address translation.
    ("10.1.2.3:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("172.31.0.1:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("192.168.0.1:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("100.64.0.1:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("127.0.0.1:4000", "10.0.0.7:1080", "10.0.0.7:4000"),
    ("169.254.1.1:4000", "10.0.0.7:1080", "10.0.0.7:4000"),
    ("[fd00::1]:4000", "[2001:db8::7]:1080", "[2001:db8::7]:4000"),
    ("[fe80::1]:4000", "[2001:db8::7]:1080", "[2001:db8::7]:4000"),
    // Of the other family.
    ("203.0.113.9:4000", "[2001:db8::7]:1080", "[2001:db8::7]:4000"),
    ("[2001:db8::9]:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    // By a name.
    ("relay.example:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
  ])
  func repairs(reported: String, control: String, place: String) throws {
    let control = try #require(SocketAddress(control))
    let found = RelayPlace.automatic.resolve(
      reported: Endpoint(reported), port: 4000, control: control, prefersControl: false)
    #expect(found == SocketAddress(place))
  }

  /// The empty name, which several servers report.
  @Test func impossibleName() throws {
    let control = try #require(SocketAddress("198.51.100.7:1080"))
    let found = RelayPlace.automatic.resolve(
      reported: nil, port: 4000, control: control, prefersControl: false)
    #expect(found?.description == "198.51.100.7:4000")
  }

  /// The same of a hop behind the first, which may be known by its name alone.
  @Test(arguments: [
    // As it should be, and repaired.
    ("203.0.113.9:4000", "198.51.100.7:1080", "203.0.113.9:4000"),
    ("0.0.0.0:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("[::]:4000", "[2001:db8::7]:1080", "[2001:db8::7]:4000"),
    ("10.1.2.3:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
    ("203.0.113.9:4000", "[::ffff:198.51.100.7]:1080", "203.0.113.9:4000"),
    // What the hop before it knows is not ours to judge.
    ("203.0.113.9:4000", "hop.example:1080", "203.0.113.9:4000"),
    ("[2001:db8::9]:4000", "hop.example:1080", "[2001:db8::9]:4000"),
    ("10.1.2.3:4000", "hop.example:1080", "10.1.2.3:4000"),
    ("127.0.0.1:4000", "hop.example:1080", "hop.example:4000"),
    ("0.0.0.0:4000", "hop.example:1080", "hop.example:4000"),
    ("[::]:4000", "hop.example:1080", "hop.example:4000"),
    ("relay.example:4000", "hop.example:1080", "hop.example:4000"),
    ("relay.example:4000", "198.51.100.7:1080", "198.51.100.7:4000"),
  ])
  func ofAHopBehindTheFirst(reported: String, hop: String, place: String) throws {
    let hop = try #require(Endpoint(hop))
    let given = try #require(IPAddress("192.0.2.1"))
    func found(_ place: RelayPlace, port: UInt16 = 4000, prefersControl: Bool = false) -> String? {
      place.resolve(
        reported: Endpoint(reported), port: port, hop: hop, prefersControl: prefersControl
      )?.description
    }
    let control =
      switch hop {
      case .address(let address): SocketAddress(address.unmapped.address, 4000).description
      case .name(let name, _): "\(name.text):4000"
      }
    #expect(found(.automatic) == place)
    // Where the first hop takes datagrams says nothing of the others.
    #expect(found(.fixed(given, port: 9)) == place)
    #expect(found(.automatic, prefersControl: true) == control)
    #expect(found(.control) == control)
    #expect(found(.automatic, port: 0) == nil)
    #expect(found(.control, port: 0) == nil)
  }

  @Test func preferencesAndOverrides() throws {
    let control = try #require(SocketAddress("198.51.100.7:1080"))
    let other = try #require(SocketAddress("203.0.113.1:5000"))
    func place(_ place: RelayPlace, _ reported: String?, prefersControl: Bool = false) -> String? {
      let reported = reported.flatMap { Endpoint($0) }
      return place.resolve(
        reported: reported, port: reported?.port ?? 0, control: control,
        prefersControl: prefersControl
      )?.description
    }
    #expect(
      place(.automatic, "203.0.113.9:4000", prefersControl: true) == "198.51.100.7:4000")
    #expect(place(.reported, "10.1.2.3:4000") == "10.1.2.3:4000")
    #expect(place(.reported, "0.0.0.0:4000") == "198.51.100.7:4000")
    #expect(place(.control, "203.0.113.9:4000") == "198.51.100.7:4000")
    #expect(place(.fixed(other.address, port: nil), "10.1.2.3:4000") == "203.0.113.1:4000")
    #expect(place(.fixed(other.address, port: 5000), nil) == "203.0.113.1:5000")
    for nowhere in [RelayPlace.automatic, .reported, .control, .fixed(other.address, port: nil)] {
      #expect(place(nowhere, "203.0.113.9:0") == nil)
      #expect(place(nowhere, nil) == nil)
    }
  }

  @Test(arguments: [
    ("8.8.8.8", true), ("10.0.0.1", true), ("2001:db8::1", true), ("fe80::1", true),
    ("0.0.0.0", false), ("0.1.2.3", false), ("127.0.0.53", false), ("224.0.0.251", false),
    ("255.255.255.255", false), ("240.0.0.1", false), ("::", false), ("::1", false),
    ("ff02::fb", false), ("::ffff:1.2.3.4", false),
  ])
  func sources(address: String, isPossible: Bool) throws {
    let address = try #require(IPAddress(address))
    #expect(SocketAddress(address, 53).isPossibleSource == isPossible)
    #expect(!SocketAddress(address, 0).isPossibleSource)
  }
}
