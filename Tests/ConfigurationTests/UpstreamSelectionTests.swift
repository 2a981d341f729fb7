import Testing

@testable import Configuration

struct UpstreamSelectionTests {
  private func options(_ change: (inout Options) -> Void) -> Options {
    var options = Options()
    options.machine = true
    change(&options)
    return options
  }

  @Test func oneIsNoGroup() throws {
    let upstreams = try Configuration(options { $0.upstream = "socks5://a" }).upstreams
    #expect(upstreams.members == [try UpstreamChain("socks5://a")])
    #expect(!upstreams.isPlural && "\(upstreams)" == "socks5://a:1080")
  }

  @Test func membersComeInTheirOrder() throws {
    let upstreams = try Configuration(
      options {
        $0.upstream = "socks5://a,http://b"
        $0.furtherUpstreams = ["socks4://c", "http://d"]
        $0.balance = "round-robin"
      }
    ).upstreams
    #expect(
      "\(upstreams)"
        == "socks5://a:1080,http://b:8080, socks4://c:1080 and http://d:8080 (round-robin)")
    #expect(upstreams.balance == .roundRobin && upstreams.members.count == 3)
  }

  /// `--upstream` alone is no second one beside the embedded server.
  @Test func firstMayBeGivenLikeTheOthers() throws {
    let upstreams = try Configuration(options { $0.furtherUpstreams = ["socks5://a"] }).upstreams
    #expect(upstreams.members == [try UpstreamChain("socks5://a")])
  }

  @Test func passwordIsOfAllThatHaveNone() throws {
    let upstreams = try Configuration(
      options {
        $0.upstream = "socks5://ann@a"
        $0.furtherUpstreams = ["socks5://bob:own@b", "http://eve@c", "socks5://d"]
        $0.password = UpstreamPassword(Array("s3cret".utf8))
      }
    ).upstreams
    let expected = [
      "socks5://ann:s3cret@a", "socks5://bob:own@b", "http://eve:s3cret@c", "socks5://d",
    ]
    #expect(upstreams.members == (try expected.map { try UpstreamChain($0) }))
    #expect(!"\(upstreams)".contains("s3cret") && !"\(upstreams)".contains("own"))
  }

  @Test(
    arguments: [
      (["socks5://a", "embedded"], nil, "embedded: no server but this process"),
      (["direct", "socks5://a"], nil, "direct: no server but this process"),
      (["socks5://a", "socks5://a:1080"], nil, "socks5://a:1080 is given twice"),
      (["socks5://a", "ftp://b"], nil, "ftp"),
      (["Tor=socks5://a"], nil, "--upstream Tor=…: expected a name of lower-case letters"),
      (["=socks5://a"], nil, "--upstream =…: expected a name"),
      (["direct=socks5://a"], nil, "other than default, direct and reject"),
      (["a=socks5://a", "b=socks5://a"], nil, "socks5://a:1080 is given twice"),
      (["socks5://a"], "hash", "--balance chooses among several"),
      (["socks5://a", "socks5://b"], "best", "--balance best: expected failover, round-robin"),
      ((1...17).map { "socks5://h\($0)" }, nil, "17 upstreams: expected at most 16"),
    ] as [([String], String?, String)])
  func refused(urls: [String], balance: String?, named: String) {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(
        options {
          $0.upstream = urls.first
          $0.furtherUpstreams = Array(urls.dropFirst())
          $0.balance = balance
        })
    }
    #expect(error?.description.contains(named) == true)
    #expect(error?.description.contains("\n") == false)
  }

  @Test func namesMakeSets() throws {
    let upstreams = try Configuration(
      options {
        $0.furtherUpstreams = [
          "tor=socks5://a", "socks5://b", "mail=http://c", "socks5://u:p=q@d", "tor=socks5://e",
        ]
      }
    ).upstreams
    #expect(upstreams.names == ["tor", nil, "mail", nil, "tor"])
    #expect(upstreams.defaults == [1, 3] && upstreams.sets == [[1, 3], [0, 4], [2]])
    #expect(upstreams.members(named: "tor") == [0, 4] && upstreams.members(named: "x") == [])
    #expect(upstreams.label(of: 2) == "mail=http://c:8080")
    #expect(upstreams.members[3].hasPassword && !"\(upstreams)".contains("p=q"))
  }

  /// Where all have a name, the first one's are what flows go through.
  @Test func firstNameStandsInForNone() throws {
    let urls = ["a=socks5://a", "b=socks5://b", "a=socks5://c"]
    let upstreams = try Configuration(options { $0.furtherUpstreams = urls }).upstreams
    #expect(upstreams.defaults == [0, 2] && upstreams.sets == [[0, 2], [1]])
    #expect(
      "\(upstreams)" == "a=socks5://a:1080, b=socks5://b:1080 and a=socks5://c:1080 (failover)")
  }

  /// Where one of them has UDP, it can be asked for.
  @Test func onlyAllTogetherStandInTheWayOfDatagrams() throws {
    let chains = try ["socks5://a,http://b", "socks5://c"].map { try UpstreamChain($0) }
    #expect(UpstreamSelection(chains, .hash).obstacleToDatagrams == nil)
    #expect(UpstreamSelection(chains[0]).obstacleToDatagrams != nil)
  }
}
