import Addressing
import Configuration
import Testing

struct UpstreamSecurityTests {
  private typealias Security = UpstreamURL.Security

  @Test(arguments: [
    ("socks5://gw.example?gssapi", "rcmd@gw.example"),
    ("socks5://192.0.2.1:1?gssapi", "rcmd@192.0.2.1"),
    ("socks5h://[2001:db8::1]/?gssapi", "rcmd@2001:db8::1"),
    ("socks5://gw?gssapi=socks", "socks@gw"), ("socks5://gw?gssapi=socks@other", "socks@other"),
    ("socks5://gw?gssapi=s%40o", "s@o"), ("socks5://gw?gssapi&protection=integrity", "rcmd@gw"),
    ("socks5://u:p@gw?gssapi", "rcmd@gw"), ("socks5://u:p@gw?gssapi=a@b", "a@b"),
    ("socks5:///run/x?gssapi=rcmd@gw", "rcmd@gw"),
  ])
  func service(_ text: String, _ expected: String) throws {
    guard case .gssapi(let server, let security, _) = try UpstreamURL(text) else {
      Issue.record("no GSSAPI")
      return
    }
    #expect(try security.service(at: server) == expected)
  }

  private static let levels: [(String, [UpstreamURL.Security.Protection])] = [
    ("", [.confidentiality, .integrity]), ("&protection=integrity", [.integrity]),
    ("&protection=integrity,confidentiality", [.integrity, .confidentiality]),
    ("&protection=confidentiality,integrity,none", [.confidentiality, .integrity, .none]),
    ("&protection=selective", [.selective]),
    ("&protection=selective,confidentiality", [.selective, .confidentiality]),
  ]

  @Test(arguments: levels)
  func protection(_ query: String, _ expected: [UpstreamURL.Security.Protection]) throws {
    guard case .gssapi(_, let security, nil) = try UpstreamURL("socks5://gw?gssapi\(query)") else {
      Issue.record("no GSSAPI")
      return
    }
    #expect(security.levels == expected)
  }

  @Test func credentialsMayBeOfferedToo() throws {
    guard
      case .gssapi(let server, _, let login?) = try UpstreamURL(
        "socks5://us@er:p?w@gw:1?gssapi=a@b")
    else {
      Issue.record("no login")
      return
    }
    #expect(server.description == "gw:1")
    #expect(login.username.segments == [.literal(Array("us@er".utf8))])
    #expect(login.password?.segments == [.literal(Array("p?w".utf8))])
  }

  /// A question mark stands for itself where nothing of ours follows.
  @Test func otherQuestionMarks() throws {
    for text in ["socks5:///run/x?gssapix", "socks5:///run/?q", "socks5://u:?gssapi2@h"] {
      guard case .socks5 = try UpstreamURL(text) else {
        Issue.record("\(text)")
        return
      }
    }
  }

  @Test(arguments: [
    ("http://h?gssapi", UpstreamURLError.securityNotSupported("http")),
    ("socks4://h?gssapi", .securityNotSupported("socks4")),
    ("socks5:///run/x?gssapi", .serviceWithoutHost),
    ("socks5:///run/x?gssapi=rcmd", .serviceWithoutHost),
    ("socks5://h?gssapi=", .malformedService), ("socks5://h?gssapi=@x", .malformedService),
    ("socks5://h?gssapi=a@", .malformedService), ("socks5://h?gssapi=a@b@c", .malformedService),
    ("socks5://h?gssapi=a%00", .malformedService), ("socks5://h?gssapi=%4", .malformedEscape),
    ("socks5://h?gssapi&protection=", .malformedProtection),
    ("socks5://h?gssapi&protection=best", .malformedProtection),
    ("socks5://h?gssapi&protection=integrity,integrity", .malformedProtection),
    ("socks5://h?gssapi&protection=none&protection=integrity", .queryFieldNotSupported),
    ("socks5://h?gssapi&x=y", .queryFieldNotSupported),
    ("socks5://h?gssapi&", .queryFieldNotSupported),
    ("socks5://?gssapi", .emptyHost),
  ])
  func refused(_ text: String, _ expected: UpstreamURLError) {
    #expect(throws: expected) { try UpstreamURL(text) }
    #expect(!expected.description.contains("\n"))
  }

  @Test(arguments: [
    ("socks5://gw?gssapi", "socks5://gw:1080?gssapi"),
    ("socks5://u:p@gw?gssapi=a@b", "socks5://u:***@gw:1080?gssapi=a@b"),
    (
      "socks5://gw?gssapi=a%20b&protection=integrity",
      "socks5://gw:1080?gssapi=a%20b&protection=integrity"
    ),
    ("socks5://gw?gssapi&protection=confidentiality,integrity", "socks5://gw:1080?gssapi"),
    ("socks5:///x?gssapi=a@b&protection=none", "socks5:///x?gssapi=a@b&protection=none"),
    (
      "socks5://gw?gssapi&protection=selective,integrity",
      "socks5://gw:1080?gssapi&protection=selective,integrity"
    ),
  ])
  func description(_ text: String, _ expected: String) throws {
    let url = try UpstreamURL(text)
    #expect(url.description == expected)
    #expect(try UpstreamURL(url.description.replacing("***", with: "p")) == url)
  }
}
