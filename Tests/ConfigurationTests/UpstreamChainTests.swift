import Testing

@testable import Configuration

struct UpstreamChainTests {
  private func hops(_ text: String) throws -> [String] {
    try UpstreamChain(text).hops.map(\.description)
  }

  @Test(arguments: [
    ("socks5://a", ["socks5://a:1080"]),
    ("embedded", ["embedded"]),
    (
      "socks5://a:1,http://b,socks4a://u@c",
      ["socks5://a:1", "http://b:8080", "socks4a://u@c:1080"]
    ),
    ("SOCKS5H://a,HTTP://[::1]:3128", ["socks5://a:1080", "http://[::1]:3128"]),
    ("socks5:///run/x,socks5://b", ["socks5:///run/x", "socks5://b:1080"]),
    // A comma that no scheme follows is the URL's own.
    ("socks5://ann:a,b@h", ["socks5://ann:***@h:1080"]),
    ("socks5://ann:a,http:b@h", ["socks5://ann:***@h:1080"]),
    ("socks5://ann:a,1://@h", ["socks5://ann:***@h:1080"]),
    ("socks5:///run/a,b", ["socks5:///run/a%2Cb"]),
    ("socks5://a?gssapi,http://b", ["socks5://a:1080?gssapi", "http://b:8080"]),
    ("socks5://ann:a%2Chttp%3A//b@h,http://c", ["socks5://ann:***@h:1080", "http://c:8080"]),
  ])
  func joinsAtCommasBeforeASchemeOnly(_ text: String, _ expected: [String]) throws {
    #expect(try hops(text) == expected)
    #expect(try UpstreamChain(text).isChain == (expected.count > 1))
    #expect(try UpstreamChain(text).description == expected.joined(separator: ","))
  }

  @Test func keepsACommaInALonePassword() throws {
    guard case .socks5(_, let login?) = try UpstreamChain("socks5://ann:a,b@h").first else {
      Issue.record("a SOCKS5 server with a password")
      return
    }
    #expect(login.password?.segments == [.literal(Array("a,b".utf8))])
  }

  private static let refusals: [(String, UpstreamChainError)] = [
    ("", .url(.noScheme, hop: nil)),
    ("socks5://a,", .url(.malformedHost, hop: nil)),
    ("socks5://a,embedded", .url(.malformedHost, hop: nil)),
    (",socks5://a", .url(.noScheme, hop: 1)),
    ("embedded,socks5://a", .thisProcess(hop: 1)),
    ("direct,socks5://a", .thisProcess(hop: 1)),
    ("socks5://a,ftp://b", .url(.schemeNotSupported("ftp"), hop: 2)),
    ("socks5://a,http://u:@b,socks5://c", .url(.emptyPassword, hop: 2)),
    ("socks5://a,socks5:///run/x", .socketBehindAnother(hop: 2)),
    ("http://a,socks4a://b,socks5://[::1]", .ipv6BehindSOCKS4(hop: 3)),
    ("socks4://a,socks5://[::1]", .ipv6BehindSOCKS4(hop: 2)),
    (Array(repeating: "socks5://a", count: 9).joined(separator: ","), .tooManyHops(9)),
  ]

  @Test(arguments: refusals)
  func refused(_ text: String, _ expected: UpstreamChainError) {
    #expect(throws: expected) { try UpstreamChain(text) }
  }

  @Test func eightHopsAreNotTooMany() throws {
    let text = Array(repeating: "socks5://a", count: 8).joined(separator: ",")
    #expect(try UpstreamChain(text).hops.count == 8)
  }

  @Test func saysWhichHop() throws {
    #expect(
      UpstreamChainError.url(.passwordTooLong, hop: 2).description
        == "hop 2: upstream password longer than 255 bytes")
    #expect(
      UpstreamChainError.url(.passwordTooLong, hop: nil).description
        == "upstream password longer than 255 bytes")
    let chain = try UpstreamChain("socks5://u:s3cret@a,http://b")
    #expect(chain.name(ofHop: 0) == "hop 1, socks5://u:***@a:1080")
    #expect(chain.name(ofHop: 1) == "hop 2, http://b:8080")
    #expect(try UpstreamChain("http://b").name(ofHop: 0) == "http://b:8080")
    var dumped = ""
    dump(chain, to: &dumped)
    #expect(
      !dumped.contains("s3cret") && !"\(chain) \(String(reflecting: chain))".contains("s3cret"))
  }

  /// The hop whose kind has none; the others have to be asked.
  @Test(arguments: [
    ("socks5://a", nil), ("http://a", nil), ("embedded", nil),
    ("socks5://a,http://b", "hop 2, http://b:8080: this kind of upstream has no UDP"),
    ("socks4://a,socks5://b", "hop 1, socks4://a:1080: this kind of upstream has no UDP"),
    ("socks5://a,socks5://b", nil),
    (
      "socks5://a,socks5://b,socks4a://c",
      "hop 3, socks4a://c:1080: this kind of upstream has no UDP"
    ),
  ])
  func namesTheHopWithoutDatagrams(_ text: String, _ expected: String?) throws {
    #expect(try UpstreamChain(text).obstacleToDatagrams == expected)
  }

  @Test func onePasswordFromElsewhereForTheHopWithout() throws {
    var chain = try UpstreamChain("socks5://u:p@a,http://v@b,socks4://w@c")
    #expect(chain.lacksPassword && chain.hasPassword)
    try chain.setPassword(Array("q".utf8))
    #expect(!chain.lacksPassword)
    #expect(chain == (try UpstreamChain("socks5://u:p@a,http://v:q@b,socks4://w@c")))
  }

  @Test func twoHopsWithoutAPassword() throws {
    var chain = try UpstreamChain("socks5://u@a,http://v@b")
    #expect(throws: UpstreamChainError.passwordsMissing) {
      try chain.setPassword(Array("q".utf8))
    }
  }

  @Test func placeholdersOfAllHops() throws {
    let chain = try UpstreamChain("socks5://{uid}:p@a,http://v:{dst_port}@b")
    #expect(chain.placeholders == [.uid, .port])
  }
}
