import Addressing
import Configuration
import TestSupport
import Testing

struct UpstreamURLTests {
  private func server(_ text: String) throws -> String {
    try UpstreamURL(text).server?.description ?? "embedded"
  }

  @Test(arguments: [
    ("socks5://192.0.2.1", "192.0.2.1:1080"), ("socks5://192.0.2.1:9050", "192.0.2.1:9050"),
    ("socks5://[2001:db8::1]", "[2001:db8::1]:1080"), ("socks5://[::1]:65535", "[::1]:65535"),
    ("socks5://proxy.example", "proxy.example:1080"),
    ("socks5://proxy.example.:1", "proxy.example.:1"),
    ("socks5h://localhost:1081/", "localhost:1081"), ("SOCKS5://Proxy", "Proxy:1080"),
    ("socks5://u:p@192.0.2.1", "192.0.2.1:1080"), ("socks5://u:p@[::1]:1/", "[::1]:1"),
    ("socks5://a_b-c.d1:1080", "a_b-c.d1:1080"),
    ("socks5://1.2.3.4.example", "1.2.3.4.example:1080"),
    ("socks5://bücher.example", "bücher.example:1080"), ("socks5://h:01080", "h:1080"),
    ("socks5:///run/tor/socks", "/run/tor/socks"), ("SOCKS5H:///x", "/x"),
    ("socks5://localhost/run/x.sock", "/run/x.sock"), ("socks5://LocalHost/run/x", "/run/x"),
    ("socks5://u:p@/run/x.sock", "/run/x.sock"), ("socks5://u:p@localhost/run/x", "/run/x"),
    ("socks5://u:p/a@/run/x", "/run/x"), ("socks5:///run/a%20b%2Fc%25", "/run/a%20b/c%25"),
    ("socks5:///run/foo@1.sock", "/run/foo%401.sock"), ("socks5:////x/", "//x/"),
    ("socks5:///%FF", "/%FF"), ("socks5:///user:secret@h", "/user%3Asecret%40h"),
    ("socks5:///" + String(repeating: "x", count: 106), "/" + String(repeating: "x", count: 106)),
    ("http://192.0.2.1", "192.0.2.1:8080"), ("HTTP://u:p@proxy.example/", "proxy.example:8080"),
    ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"), ("http://[::1]", "[::1]:8080"),
    ("http:///run/proxy.sock", "/run/proxy.sock"),
    ("socks4://192.0.2.1", "192.0.2.1:1080"), ("SOCKS4A://me@proxy.example:1", "proxy.example:1"),
    ("socks4a://[::1]", "[::1]:1080"), ("socks4:///run/x", "/run/x"),
  ])
  func server(_ text: String, _ expected: String) throws {
    #expect(try server(text) == expected)
  }

  @Test(arguments: ["direct", "Direct"])
  func direct(_ text: String) throws {
    let url = try UpstreamURL(text)
    #expect(url == .direct && url.description == "direct" && url.isThisProcess)
  }

  @Test(arguments: ["embedded", "EMBEDDED", "Embedded"])
  func embedded(_ text: String) throws {
    #expect(try UpstreamURL(text) == .embedded)
    #expect(try UpstreamURL(text).description == "embedded")
  }

  @Test(arguments: [
    ("user:secret", "user", "secret"), ("u:p", "u", "p"), ("u:a:b", "u", "a:b"),
    ("user%40example.com:p%3Aw%2F%25", "user@example.com", "p:w/%"),
    ("a%3ab:c", "a:b", "c"), ("u@home:p@ss/w?rd#1", "u@home", "p@ss/w?rd#1"),
    ("%C3%BC:ü", "ü", "ü"), ("u+v: ", "u+v", " "),
  ])
  func login(_ text: String, _ username: String, _ password: String) throws {
    guard case .socks5(let server, let login?) = try UpstreamURL("socks5://\(text)@h") else {
      Issue.record("no login")
      return
    }
    #expect(server.description == "h:1080")
    #expect(login.username.segments == [.literal(Array(username.utf8))])
    #expect(login.password?.segments == [.literal(Array(password.utf8))])
  }

  @Test func loginMayBeAnyBytes() throws {
    // Braces are doubled.
    let bytes = (1...253).map { $0 as UInt8 }.flatMap { "{}".utf8.contains($0) ? [$0, $0] : [$0] }
    let escaped = bytes.map { "%" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    guard case .socks5(_, let login?) = try UpstreamURL("socks5://\(escaped):\(escaped)@h") else {
      Issue.record("no login")
      return
    }
    #expect(login.username.segments == [.literal(Array(1...253))])
    #expect(login.password?.segments == [.literal(Array(1...253))])
  }

  @Test(arguments: [
    ("socks5://u@h", "socks5://u@h:1080"), ("http://a%40b@[::1]", "http://a%40b@[::1]:8080"),
    ("socks5://u@/run/x", "socks5://u@/run/x"),
  ])
  func passwordComesFromElsewhere(_ text: String, _ description: String) throws {
    var url = try UpstreamURL(text)
    #expect(url.lacksPassword && !url.hasPassword)
    #expect(url.description == description)
    for (password, error) in [
      ([], UpstreamURLError.emptyPassword), ([UInt8](repeating: 1, count: 256), .passwordTooLong),
    ] {
      #expect(throws: error) { try url.setPassword(password) }
      #expect(url.lacksPassword)
    }
    try url.setPassword(Array("a:b@c%41/".utf8))
    #expect(!url.lacksPassword && url.hasPassword)
    let (scheme, rest) = (text.prefix { $0 != "@" }, text.drop { $0 != "@" })
    #expect(try url == UpstreamURL("\(scheme):a%3Ab%40c%2541%2F\(rest)"))
    #expect(!url.description.contains("a:b"))
  }

  @Test(arguments: [
    ("embedded", false), ("socks5://h", false), ("socks5://u:p@h", true), ("http://u:p@h", true),
    ("socks4://u@h", false), ("socks4a://h", false),
  ])
  func passwordIsThereOrNotWanted(_ text: String, _ hasPassword: Bool) throws {
    let url = try UpstreamURL(text)
    #expect(!url.lacksPassword)
    #expect(url.hasPassword == hasPassword)
  }

  private static let refusals: [(String, UpstreamURLError)] = [
    ("", .noScheme), ("192.0.2.1:1080", .noScheme), ("user:pw@host:1", .noScheme),
    ("socks5:192.0.2.1", .noScheme), ("socks5:/h", .noScheme), ("://h", .noScheme),
    ("//h", .noScheme), ("so cks://h", .noScheme), (" socks5://h", .noScheme),
    ("embedded ", .noScheme),
    ("socks4b://h", .schemeNotSupported("socks4b")), ("socks4://u:p@h", .passwordNotSupported),
    ("socks4a://u:@h", .passwordNotSupported), ("socks4://@h", .emptyUsername),
    ("socks4://a%00b@h", .zeroByteInUsername), ("socks4://u%@h", .malformedEscape),
    ("socks4://" + String(repeating: "u", count: 256) + "@h", .usernameTooLong),
    ("socks4a://", .emptyHost), ("socks4://h/path", .path),
    ("https://h", .schemeNotSupported("https")), ("direct://", .schemeNotSupported("direct")),
    ("embedded://", .schemeNotSupported("embedded")), ("Socks://h", .schemeNotSupported("socks")),
    ("socks5://u%:p@h", .malformedEscape), ("socks5://u:p%4@h", .malformedEscape),
    ("socks5://u:%zz@h", .malformedEscape), ("socks5://u:%4", .portNotANumber),
    ("socks5://@h", .emptyUsername), ("socks5://:p@h", .emptyUsername),
    ("socks5://u:@h", .emptyPassword), ("http://u:@h", .emptyPassword),
    ("http://u%3Av:p@h", .colonInUsername), ("http://u%3Av@h", .colonInUsername),
    ("http://", .emptyHost), ("http://h/path", .path), ("http://h:0", .portOutOfRange("0")),
    ("http://h:1:2", .bareIPv6Address),
    ("socks5://", .emptyHost), ("socks5:///", .emptyHost), ("socks5://:1080", .emptyHost),
    ("socks5://u:p@", .emptyHost), ("socks5://u:p@:1", .emptyHost),
    ("socks5://h:", .portNotANumber), ("socks5://h:http", .portNotANumber),
    ("socks5://h:-1", .portNotANumber), ("socks5://h:+1", .portNotANumber),
    ("socks5://h: 1", .portNotANumber), ("socks5://[::1]1080", .portNotANumber),
    ("socks5://[::1]:", .portNotANumber), ("socks5://h:0", .portOutOfRange("0")),
    ("socks5://h:70000", .portOutOfRange("70000")), ("socks5://h:65536", .portOutOfRange("65536")),
    ("socks5://h:99999999999999999999", .portOutOfRange("99999999999999999999")),
    ("socks5://h/path", .path), ("socks5://h:1//", .path), ("socks5://h:1/?q", .path),
    ("socks5://localhost:1/path", .path), ("socks5://127.0.0.1/path", .path),
    ("socks5://localhost./path", .path), ("socks5://:1/path", .path),
    ("socks5://u:p@/", .emptyHost), ("socks5://u:@/run/x", .emptyPassword),
    ("socks5:///run/%zz", .malformedEscape), ("socks5:///run/%4", .malformedEscape),
    ("socks5:///run/x%00", .zeroByteInPath), ("socks5:///run/\0", .zeroByteInPath),
    ("socks5:///" + String(repeating: "x", count: 107), .pathTooLong),
    ("socks5://localhost/" + String(repeating: "%20", count: 107), .pathTooLong),
    ("socks5://[::1", .malformedIPv6Address), ("socks5://[]", .malformedIPv6Address),
    ("socks5://[h]", .malformedIPv6Address), ("socks5://[1.2.3.4]", .malformedIPv6Address),
    ("socks5://[fe80::1%eth0]", .malformedIPv6Address), ("socks5://2001:db8::1", .bareIPv6Address),
    ("socks5://::1", .bareIPv6Address), ("socks5://h:1:2", .bareIPv6Address),
    ("socks5://1.2.3", .malformedIPv4Address), ("socks5://1.2.3.256", .malformedIPv4Address),
    ("socks5://1.2.3.04", .malformedIPv4Address), ("socks5://1", .malformedIPv4Address),
    ("socks5://0x7f000001", .malformedIPv4Address), ("socks5://a.0XFF", .malformedIPv4Address),
    ("socks5://1.2.3.4.", .malformedIPv4Address), ("socks5://1.2.3.4.5", .malformedIPv4Address),
    ("socks5://h?q", .malformedHost), ("socks5://h#f", .malformedHost),
    ("socks5://h\\x", .malformedHost), ("socks5://a b", .malformedHost),
    ("socks5://a%20b", .malformedHost), ("socks5://h\n", .malformedHost),
    ("socks5://h\0", .malformedHost), ("socks5://.", .malformedHost),
    ("socks5://*", .malformedHost),
    ("socks5://h]", .malformedHost),
    ("socks5://" + String(repeating: "h", count: 256), .malformedHost),
    ("socks5://" + String(repeating: "u", count: 256) + ":p@h", .usernameTooLong),
    ("socks5://u:" + String(repeating: "p", count: 256) + "@h", .passwordTooLong),
  ]

  @Test(arguments: refusals)
  func refused(_ text: String, _ expected: UpstreamURLError) {
    #expect(throws: expected) { try UpstreamURL(text) }
    #expect(!expected.description.contains("\n"))
    #expect(!expected.description.contains("%4"))
  }

  @Test func errorsSayWhatWasExpected() {
    #expect(
      UpstreamURLError.usernameTooLong.description == "upstream user name longer than 255 bytes")
    #expect(
      UpstreamURLError.portOutOfRange("70000").description
        == "upstream port 70000 is not between 1 and 65535")
    #expect(
      UpstreamURLError.schemeNotSupported("ftp").description.contains("ftp: expected socks5://"))
  }

  /// Wherever a password is put, no error repeats it.
  @Test(arguments: [
    "user:PW@host:port", "socks5://user:PW", "socks5://user:PW:@h:0", "socks5://user:PW@",
    "socks5://user:PW%@h", "socks5://user:PW@h:x", "https://user:PW@h", "socks5://u:PW@h/p",
    "socks5:/user:PW@h", "http://us%3Aer:PW@h", "socks4://user:PW@h",
    "ftp://user:PW@h", "socks5://user:PW@[::1",
    "socks5://us/er:PW", "socks5://u:/PW",
  ])
  func errorsDoNotShowPasswords(_ text: String) {
    let text = text.replacing("PW", with: "hunter2")
    do {
      _ = try UpstreamURL(text)
      Issue.record("\(text) was accepted")
    } catch {
      #expect(!"\(error)".contains("hunter2"))
      #expect(!String(reflecting: error).contains("hunter2"))
    }
  }

  /// Any path, escaped where it must be and in other places, with and without a user, and its text read
  /// again.
  @Test(arguments: 0..<20 as Range<UInt64>)
  func randomPaths(seed: UInt64) throws {
    var random = SplitMix(seed: seed)
    for _ in 0..<100 {
      let rest = (0...random.next(below: 105)).map { _ in UInt8(1 + random.next(below: 255)) }
      let bytes = [UInt8(ascii: "/")] + rest
      let path = bytes.map { byte in
        let isPlain = byte < 0x80 && byte != UInt8(ascii: "%") && byte != UInt8(ascii: "@")
        if isPlain, random.next(below: 2) == 0 { return String(Unicode.Scalar(byte)) }
        return (byte < 16 ? "%0" : "%") + String(byte, radix: 16)
      }.joined()
      // The first byte is a slash as it is, and then a path of one byte more than that.
      let plain = "/" + path.dropFirst(path.hasPrefix("/") ? 1 : 3)
      let user = ["", "u:p@"][Int(random.next(below: 2))]
      let host = ["", "localhost"][Int(random.next(below: 2))]
      let url = try UpstreamURL("socks5://\(user)\(host)\(plain)")
      guard case .socks5(.socket(let found), let login) = url else {
        Issue.record("no socket: \(url)")
        return
      }
      #expect(found.bytes == bytes)
      #expect((login == nil) == user.isEmpty)
      #expect(try UpstreamURL(url.description.replacing("***", with: "p")) == url)
    }
  }

  @Test(arguments: [
    ("socks5://h", "socks5://h:1080"), ("socks5h://[::1]:1/", "socks5://[::1]:1"),
    ("socks5://user:secret@h:1", "socks5://user:***@h:1"),
    ("socks5://a%40b%0A%7F:secret@h", "socks5://a%40b%0A%7F:***@h:1080"),
    ("socks5://ü:secret@h", "socks5://%C3%BC:***@h:1080"),
    ("socks4://h", "socks4://h:1080"), ("SOCKS4A://a%3Ab@h:1/", "socks4a://a%3Ab@h:1"),
    ("socks4://me@/run/x", "socks4://me@/run/x"), ("socks4a://h", "socks4a://h:1080"),
    ("http://h", "http://h:8080"), ("HTTP://user:secret@[::1]:1/", "http://user:***@[::1]:1"),
    ("socks5:///run/x", "socks5:///run/x"), ("socks5h://localhost/run/x", "socks5:///run/x"),
    ("socks5://user:secret@/run/a%0Ab", "socks5://user:***@/run/a%0Ab"),
  ])
  func description(_ text: String, _ expected: String) throws {
    let url = try UpstreamURL(text)
    #expect(url.description == expected)
    #expect(String(reflecting: url) == expected)
    var dumped = ""
    dump(url, to: &dumped)
    #expect(!dumped.contains("secret"))
    #expect(!dumped.contains("115"), "the bytes of a password")
  }
}
