import Addressing
import Testing

@testable import SOCKS

struct FlowIdentityTests {
  private static let v4 = SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 443)

  private func flow(
    to destination: Endpoint = .address(v4),
    client: IPAddress = .v4(IPv4Address(bits: 0x0A00_0007)),
    owner: FlowIdentity.Owner = .init(user: 1000, group: 77, controlGroup: "/a.slice/b")
  ) -> FlowIdentity {
    FlowIdentity(client: client, to: destination, owner: owner)
  }

  private func text(_ attribute: FlowAttribute, _ flow: FlowIdentity) -> String {
    String(decoding: FlowTemplate([.attribute(attribute)]).text(of: flow), as: UTF8.self)
  }

  @Test func attributes() throws {
    let expected: [FlowAttribute: String] = [
      .user: "1000", .group: "77", .controlGroup: "/a.slice/b", .client: "10.0.0.7",
      .host: "192.0.2.1", .port: "443",
    ]
    for attribute in FlowAttribute.allCases {
      #expect(text(attribute, flow()) == expected[attribute])
    }
    let v6 = try #require(IPAddress("2001:db8::1"))
    #expect(text(.client, flow(client: v6)) == "2001:db8::1")
    #expect(text(.host, flow(to: .address(SocketAddress(v6, 1)))) == "2001:db8::1")
    let name = try #require(HostName("example.com"))
    #expect(text(.host, flow(to: .name(name, port: 80))) == "example.com")
    #expect(text(.port, flow(to: .name(name, port: 80))) == "80")
  }

  @Test func whatIsNotKnown() {
    for attribute in [FlowAttribute.user, .group, .controlGroup] {
      #expect(text(attribute, flow(owner: .init())) == "unknown")
    }
  }

  @Test func ourselves() {
    let ours = FlowIdentity.ourselves(to: .address(Self.v4))
    #expect(
      FlowAttribute.allCases.map { text($0, ours) }
        == ["0", "0", "/", "127.0.0.1", "192.0.2.1", "443"])
  }

  private func template(_ text: String, _ attributes: FlowAttribute...) -> FlowTemplate {
    FlowTemplate([.literal(Array(text.utf8))] + attributes.map { .attribute($0) })
  }

  @Test func dialectsAreFilledIn() throws {
    let credentials = try Credentials(
      username: template("u", .user), password: template("p", .host, .port))
    let filled = try Credentials(username: "u1000", password: "p192.0.2.1443")
    #expect(try Dialect.socks5(credentials).filledIn(by: flow()) == .socks5(filled))
    #expect(try Dialect.http(credentials).filledIn(by: flow()) == .http(filled))
    #expect(Dialect.http(credentials).attributes == [.user, .host, .port])
    let user = try UserID(template("u", .client))
    for takesNames in [false, true] {
      let dialect = Dialect.socks4(user, takesNames: takesNames)
      #expect(
        try dialect.filledIn(by: flow())
          == .socks4(UserID("u10.0.0.7".utf8), takesNames: takesNames))
      #expect(dialect.attributes == [.client])
    }
  }

  /// Without a template nothing is made, and no flow is asked for.
  @Test func constantDialectsStay() throws {
    let constant = try Credentials(username: template("u"), password: template("p"))
    #expect(try constant == Credentials(username: "u", password: "p"))
    for dialect in [
      Dialect.socks5(nil), .socks5(constant), .http(nil), .http(constant),
      .socks4(nil, takesNames: true), .socks4(try UserID(template("u")), takesNames: false),
    ] {
      #expect(dialect.attributes.isEmpty)
      func nobody() -> FlowIdentity {
        Issue.record("a flow was asked for")
        return flow()
      }
      #expect(try dialect.filledIn(by: nobody()) == dialect)
    }
  }

  /// Why a dialect cannot carry what the flow makes of it; nil if it can.
  private func failure(_ dialect: Dialect, _ flow: FlowIdentity) -> HandshakeFailure? {
    do throws(HandshakeFailure) {
      _ = try dialect.filledIn(by: flow)
      return nil
    } catch {
      return error
    }
  }

  /// 255 bytes go, 256 do not, and nothing is cut.
  @Test(arguments: [(251, true), (252, false)])
  func length(_ literals: Int, _ isPossible: Bool) throws {
    let long = template(String(repeating: "x", count: literals), .user)
    let short = template("p", .user)
    let userTooLong: HandshakeFailure? =
      isPossible ? nil : .credentialsNotSupported(.usernameTooLong)
    let passwordTooLong: HandshakeFailure? =
      isPossible ? nil : .credentialsNotSupported(.passwordTooLong)
    let old = Dialect.socks4(try UserID(long), takesNames: true)
    #expect(failure(old, flow()) == userTooLong)
    let asUser = try Credentials(username: long, password: short)
    let asPassword = try Credentials(username: short, password: long)
    for dialect in [Dialect.socks5, Dialect.http] {
      #expect(failure(dialect(asUser), flow()) == userTooLong)
      #expect(failure(dialect(asPassword), flow()) == passwordTooLong)
    }
  }

  @Test func colonInUserOfHTTP() throws {
    let credentials = try Credentials(username: template("u", .client), password: template("p"))
    let v6 = flow(client: .v6(.loopback))
    #expect(failure(.http(credentials), v6) == .credentialsNotSupported(.colonInUsername))
    #expect(failure(.socks5(credentials), v6) == nil)
    #expect(failure(.http(credentials), flow()) == nil)
  }

  @Test func whatIsTooLongForEveryFlow() {
    #expect(throws: CredentialsError.usernameTooLong) {
      try UserID(template(String(repeating: "x", count: 255), .user))
    }
    #expect(throws: CredentialsError.passwordTooLong) {
      try Credentials(
        username: template("u"), password: template(String(repeating: "x", count: 255), .port))
    }
    #expect(throws: CredentialsError.emptyUsername) { try UserID(FlowTemplate([])) }
  }
}
