import Testing

@testable import Configuration

struct IdentityTemplateTests {
  private typealias Segment = IdentityTemplate.Segment

  private static func literal(_ text: String) -> Segment { .literal(Array(text.utf8)) }

  private static let texts: [(String, [Segment])] = [
    ("plain", [literal("plain")]), ("", []), ("{uid}", [.placeholder(.uid)]),
    ("a{gid}b", [literal("a"), .placeholder(.gid), literal("b")]),
    ("{cgroup}{client_ip}", [.placeholder(.cgroup), .placeholder(.clientAddress)]),
    ("{dst_host}:{dst_port}", [.placeholder(.host), literal(":"), .placeholder(.port)]),
    ("{{", [literal("{")]), ("}}", [literal("}")]), ("{{uid}}", [literal("{uid}")]),
    ("{{{uid}}}", [literal("{"), .placeholder(.uid), literal("}")]),
    ("{uid}{uid}", [.placeholder(.uid), .placeholder(.uid)]), ("{{}}", [literal("{}")]),
    ("{{{{", [literal("{{")]), ("a}}b{{c", [literal("a}b{c")]),
  ]

  @Test(arguments: texts)
  private func parsed(_ text: String, _ segments: [Segment]) throws {
    #expect(try IdentityTemplate(Array(text.utf8)).segments == segments)
  }

  @Test(arguments: [
    "{", "}", "{}", "{uid", "uid}", "{ uid}", "{UID}", "{user}", "{{uid}", "{uid}}", "{u{id}}",
    "a{", "}b", "{{{", "}}}", "{uid{gid}}", "{\u{0}}",
  ])
  func refused(_ text: String) {
    #expect(throws: UpstreamURLError.unknownPlaceholder) {
      try IdentityTemplate(Array(text.utf8))
    }
  }

  @Test func errorListsWhatIsKnown() {
    let text = UpstreamURLError.unknownPlaceholder.description
    for placeholder in IdentityTemplate.Placeholder.allCases {
      #expect(text.contains("{\(placeholder.rawValue)}"))
    }
  }

  /// Raw and percent-encoded braces are the same, and the URL that is shown is read as the same again.
  @Test(arguments: [
    ("{uid}-{{x}}", "%7Buid%7D-%7b%7bx%7D%7D", "{uid}-%7B%7Bx%7D%7D"),
    ("{client_ip}%40{dst_host}", "%7Bclient_ip}%40{dst%5Fhost%7D", "{client_ip}%40{dst_host}"),
  ])
  func inURLs(_ raw: String, _ encoded: String, _ shown: String) throws {
    for rest in ["@h", ":p@h", "@/run/x"] {
      for scheme in ["socks5", "http"] {
        let url = try UpstreamURL("\(scheme)://\(raw)\(rest)")
        #expect(try UpstreamURL("\(scheme)://\(encoded)\(rest)") == url)
        #expect(url.description.contains("//\(shown)"))
        #expect(url.placeholders == (try UpstreamURL("socks4://\(raw)@h")).placeholders)
        if url.lacksPassword { #expect(try UpstreamURL(url.description) == url) }
      }
    }
    let old = try UpstreamURL("socks4a://\(raw)@h")
    #expect(try UpstreamURL("socks4a://\(encoded)@h") == old)
    #expect(try UpstreamURL(old.description) == old)
  }

  @Test(arguments: [
    (255, "", true), (256, "", false), (254, "{uid}", true), (255, "{uid}", false),
    (253, "{uid}{gid}", true), (254, "{uid}{gid}", false),
  ])
  func lengthInAnyCase(_ literals: Int, _ placeholders: String, _ isPossible: Bool) {
    let text = String(repeating: "x", count: literals) + placeholders
    for (url, error) in [
      ("socks5://\(text)@h", UpstreamURLError.usernameTooLong),
      ("http://u:\(text)@h", .passwordTooLong), ("socks4://\(text)@h", .usernameTooLong),
    ] {
      if isPossible {
        #expect(throws: Never.self) { try UpstreamURL(url) }
      } else {
        #expect(throws: error) { try UpstreamURL(url) }
      }
    }
  }

  @Test func whatLiteralPartsMayNotHave() {
    #expect(throws: UpstreamURLError.colonInUsername) { try UpstreamURL("http://{uid}%3A:p@h") }
    #expect(throws: UpstreamURLError.zeroByteInUsername) { try UpstreamURL("socks4://{uid}%00@h") }
  }

  @Test(arguments: [
    ("{uid}", true), ("x{gid}", true), ("{cgroup}", true), ("{client_ip}", false),
    ("{dst_host}{dst_port}", false), ("{{uid}}", false),
  ])
  func programsAreOfThisHost(_ template: String, _ isOfProgram: Bool) throws {
    for url in [
      "socks5://\(template)@h", "socks5://u:\(template)@h", "http://\(template):p@h",
      "socks4a://\(template)@h",
    ] {
      var options = Options()
      options.upstream = url
      options.gateways = ["lan0"]
      if isOfProgram {
        let error = #expect(throws: ConfigurationError.self) { try Configuration(options) }
        #expect(error?.description.contains("give --machine, too") == true)
      } else {
        #expect(throws: Never.self) { try Configuration(options) }
      }
      options.machine = true
      #expect(throws: Never.self) { try Configuration(options) }
      options.gateways = []
      #expect(throws: Never.self) { try Configuration(options) }
    }
  }
}
