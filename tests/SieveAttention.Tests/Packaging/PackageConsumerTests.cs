using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

/// <summary>What a user does: a new console project that knows the packages only.</summary>
[Category("Packaging")]
public sealed class PackageConsumerTests
{
    private const string Program = """
        using SieveAttention;

        // One query that equals its only key: cosine 1, threshold 0 (ln 1 = 0), so the output is the value row.
        TensorShape shape = new(1, 1, 1, 4);
        AttentionTensor row = AttentionTensor.From<float>(new float[] { 1, 2, 3, 4 }, shape);
        ThresholdDifferentialAttention attention = new(AttentionDevice.Cpu);
        using ThresholdDifferentialResult result = attention.Forward(new() { Query1 = row, Key1 = row, Value = row });
        Console.WriteLine($"output: {string.Join(' ', result.Output.AsSpan<float>().ToArray())}");
        Console.WriteLine(CudaDevice.IsAvailable(out string reason) ? "cuda: yes" : $"cuda: no, {reason}");
        Console.WriteLine(SieveDiagnostics.Describe());
        """;

    [Test]
    public async Task A_new_project_restores_both_packages_and_runs_attention()
    {
        ExternalProgram.Result run = await RunConsumer(Program, "SieveAttention", "SieveAttention.Native.linux-x64");

        Assert.That(run.ExitCode, Is.Zero, run.Output);
        Assert.That(run.Output, Does.Contain("output: 1 2 3 4"));
        Assert.That(run.Output, Does.Match("cuda: (yes|no, .+)"));
        Assert.That(run.Output, Does.Contain($"native library: SieveAttention {SourceTree.Version}"), "The packed library was not loaded.");
    }

    [Test]
    public async Task A_new_project_with_the_managed_package_alone_runs_on_the_CPU_and_says_why_there_is_no_CUDA()
    {
        ExternalProgram.Result run = await RunConsumer(Program, "SieveAttention");

        Assert.That(run.ExitCode, Is.Zero, run.Output);
        Assert.That(run.Output, Does.Contain("output: 1 2 3 4"));
        Assert.That(run.Output, Does.Match("cuda: no, .*sieve_attention"));
    }

    [Test]
    public async Task The_example_of_the_README_runs_in_a_new_project()
    {
        string example = File.ReadAllText(Path.Combine(SourceTree.Root, "samples", "QuickStart", "Program.cs"));

        ExternalProgram.Result run = await RunConsumer(example, "SieveAttention");

        Assert.That(run.ExitCode, Is.Zero, run.Output);
        Assert.That(run.Output, Does.Match(@"^cpu: output \[1, 4, 512, 64\], 0\.\d"));
    }

    private static async Task<ExternalProgram.Result> RunConsumer(string program, params string[] packages)
    {
        foreach (string id in packages)
        {
            _ = SourceTree.Package(id);
        }

        using TemporaryFolder folder = new();
        string references = string.Concat(packages.Select(id =>
            $"""<PackageReference Include="{id}" Version="[{SourceTree.Version}]" />"""));
        File.WriteAllText(Path.Combine(folder.Path, "Program.cs"), program);
        File.WriteAllText(
            Path.Combine(folder.Path, "Consumer.csproj"),
            $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
              </PropertyGroup>
              <ItemGroup>{references}</ItemGroup>
            </Project>
            """);

        // The sources of the machine stay in force for the two dependencies.
        File.WriteAllText(
            Path.Combine(folder.Path, "nuget.config"),
            $"""
            <configuration>
              <packageSources><add key="packed" value="{SourceTree.Packages}" /></packageSources>
            </configuration>
            """);

        return await ExternalProgram.RunAsync(
            "dotnet",
            ["run", "--project", folder.Path],
            folder.Path,
            new Dictionary<string, string>
            {
                // Its own package folder: a package of the same version from an earlier build is never taken for this one.
                ["NUGET_PACKAGES"] = Path.Combine(folder.Path, "packages"),
                ["SIEVE_NATIVE_PATH"] = "",
                ["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1",
                ["MSBUILDDISABLENODEREUSE"] = "1",
            });
    }
}
