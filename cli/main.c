/* main.c - the command `eyrie`: which command is meant, general help, and the exit status. */
#include "commands.h"

#include <signal.h>
#include <string.h>

static const cli_command commands[] = {
    { CLI_RUN, "run", "lets a model continue a text",
      "-m MODEL (-p TEXT | -f FILE | - | --tokens IDS | --load-state FILE) [options]",
      "Reads a text and generates what follows it, to standard output as it comes; how fast that went, to standard\n"
      "error. For a model without tokenizer the output is token ids. A state file holds what the model remembers of a\n"
      "text: what is generated before and after it is, byte for byte, what would have been generated at once.\n",
      "  eyrie run -m models/shakespeare -p ROMEO: -n 200 --temp 0.8 --seed 1\n"
      "  cat letter.txt | eyrie run -m models/shakespeare - > answer.txt\n"
      "  eyrie run -m models/shakespeare --tokens 2,814,983,4 -n 16 --json\n"
      "  eyrie run -m models/shakespeare -p ROMEO: -n 100 --save-state romeo.state\n"
      "  eyrie run -m models/shakespeare --load-state romeo.state -n 100\n"
      "  eyrie run -m models/shakespeare -f scene.txt -n 60 --samples 8 --seed 3\n"
      "  eyrie run -m synthetic:griffin-1b --tokens 2,5,9 -n 16 --json\n",
      cli_run },
    { CLI_CHAT, "chat", "talks, turn by turn",
      "-m MODEL [options]",
      "Reads lines from standard input and answers each; all that was said is kept as the state of one sequence. A model\n"
      "with turn markers (<start_of_turn>, <end_of_turn>) is given turns, any other the lines as they are. Ctrl-C stops\n"
      "an answer, Ctrl-D ends the chat. Lines that begin with / are commands:\n"
      "  /save FILE   saves the chat\n"
      "  /load FILE   goes on with a saved one\n"
      "  /reset       begins a new one\n"
      "  /help        lists the commands\n"
      "  /quit        ends the chat\n",
      "  eyrie chat -m models/shakespeare --temp 0.7 -n 80\n"
      "  eyrie chat -m models/shakespeare --session monday.state\n"
      "  printf 'ROMEO:\\nJULIET:\\n' | eyrie chat -m models/shakespeare --seed 1\n",
      cli_chat },
    { CLI_SCORE, "score", "says how probable a model finds a text",
      "-m MODEL (-p TEXT | -f FILE | - | --tokens IDS) [options]",
      "Reads a text as one sequence and prints the number of tokens predicted (all but the first), the mean of their\n"
      "negative log-probabilities, its exponential, and the bits in all for each byte of text. --json has the\n"
      "log-probability of every token. With --continuation the text is read once, and a line for each continuation has its\n"
      "log-probability after the text and its number of tokens.\n",
      "  eyrie score -m models/shakespeare -f hamlet.txt\n"
      "  eyrie score -m models/shakespeare -p 'To be, or not to be' --json\n"
      "  eyrie score -m models/shakespeare --tokens 2,814,983,4 --logits logits.f32\n"
      "  eyrie score -m models/shakespeare -p 'To be, or ' --continuation 'not to be' --continuation 'to go'\n",
      cli_score },
    { CLI_BATCH, "batch", "answers a file of requests",
      "-m MODEL (FILE | -) [-o FILE] [options]",
      "Each line of FILE is a request, a JSON object with a prompt, how to generate from it, and texts to score after it; each\n"
      "line of the output answers one. The options are for what a request does not say. Given again, the command goes on\n"
      "where the output ends, whatever ended it; lines taken out of the output are answered anew. Under mpirun all processes\n"
      "share the work, each with a device of its own. Exit status 1 if a request failed, after the rest is done.\n",
      "  eyrie batch -m models/shakespeare requests.jsonl -o answers.jsonl\n"
      "  echo '{\"prompt\": \"ROMEO:\", \"max_tokens\": 20, \"n\": 2}' | eyrie batch -m models/shakespeare -\n"
      "  mpirun -n 4 eyrie batch -m models/shakespeare requests.jsonl -o answers.jsonl --order completion\n",
      cli_batch },
    { CLI_INFO, "info", "says what a model is and what it takes",
      "-m MODEL [options]",
      "Layers, parameters, bytes on the device, and what steps cost, from the headers of the model's files: it reads no\n"
      "weights. How long steps take is predicted: from those of this model that ran on the device, else from what the\n"
      "device reads and computes at best, which is measured once. Without a device there is all the rest.\n",
      "  eyrie info -m models/shakespeare\n"
      "  eyrie info -m models/shakespeare --weights f32 --json\n"
      "  eyrie info -m synthetic:recurrentgemma-9b --memory 40G --context 4096\n",
      cli_info },
    { CLI_PACK, "pack", "writes a model's weights as devices read them",
      "-m MODEL -o DIR [--weights FORMAT]",
      "Makes the directory DIR, a checkpoint with the same results as MODEL with these --weights. It is loaded without\n"
      "packing, and where the device works in the host's memory without a copy, too. The original is needed for other\n"
      "formats, and for versions of Eyrie that read another layout. If interrupted, DIR.new-... may be left to remove.\n",
      "  eyrie pack -m models/shakespeare --weights q4 -o shakespeare-q4\n"
      "  eyrie run -m shakespeare-q4 -p ROMEO: -n 100\n",
      cli_pack },
    { CLI_DEVICES, "devices", "lists the OpenCL devices, and what one can do",
      "[--probe] [--device SEL] [options]",
      "Lists all devices; --device and --probe tell more of the one that is selected, or of the default: its\n"
      "capabilities, what it reads and computes a second, which kernels it gets and which not, and why. Capabilities\n"
      "are found by compiling and running; --probe does that, what it found is remembered in the cache directory. What\n"
      "decides about kernels (amx) every command that runs a model probes by itself, once.\n",
      "  eyrie devices\n"
      "  eyrie devices --probe\n"
      "  eyrie devices --device cpu --json\n",
      cli_devices },
    { CLI_TUNE, "tune", "measures which kernels a model is fastest with on a device",
      "-m MODEL [--again] [--device SEL] [options]",
      "Measures every product of the model with every tile that the device has, for 1, 2, 4, ... rows up to --slots, which\n"
      "is decoding, and for 8, 16, ... up to --chunk, reading, and checks that all give the same bits. What is found is\n"
      "kept in the cache directory by device and driver after each product: an interrupted search goes on where it\n"
      "ended, and from then on the commands that run a model use it. Only the model's shapes are read. Products of the\n"
      "CPU's matrix unit have no tiles. Exit status 1 if a tile is wrong.\n",
      "  eyrie tune -m models/shakespeare\n"
      "  eyrie tune -m models/shakespeare --weights q8 --slots 8\n"
      "  eyrie tune -m synthetic:recurrentgemma-2b --json\n",
      cli_tune },
    { CLI_BENCH, "bench", "measures a device and a model on it, and compares",
      "(-m MODEL | serve -m MODEL | device | report | paper [MODEL ...] | show FILE | compare FILE FILE) [options]",
      "With -m: how fast the model reads prompts and generates, for all lengths, depths, batches and settings that are asked\n"
      "for, beside what the device allows, which is measured in between. serve: how long requests wait that come to it, beside\n"
      "what a simulation says of the same. device: what the device allows, in all its caches.\n"
      "report: capabilities, self-test, device and a quick benchmark in one record, to be sent in. paper: Hawk, Griffin and\n"
      "MQA of one --size side by side, or the models named, compared with the last: the Griffin paper's figures, measured and\n"
      "predicted, with -d depths, -b batches, -p prompts, -n lengths and throughput within --memory. show: a record in another\n"
      "form. compare: two records side by side, and whether the second is slower or faster by more than chance; exit status 3\n"
      "if something is slower. Records are JSON, as -o writes them. Ctrl-C ends the measuring; what is done is printed and\n"
      "written. Building kernels, filling sequences and a first repetition are not timed.\n",
      "  eyrie bench device\n"
      "  eyrie bench -m synthetic:griffin-100m -p 512,2048 -n 128 -d 0,4096 -b 1,4,16 -r 5 -o griffin.json\n"
      "  eyrie bench -m models/shakespeare --weights bf16,q8 --quick --output csv\n"
      "  eyrie bench serve -m models/shakespeare --rate 20 --requests 200 --prompt-tokens 200~0.8 --output-tokens 10-100\n"
      "  eyrie bench serve -m models/shakespeare --search --first-token 0.5 --between-tokens 0.05\n"
      "  eyrie bench report -o report.json --html report.html\n"
      "  eyrie bench paper --size 100m --memory 2G -o paper.json --html paper.html --figures paper\n"
      "  eyrie bench compare before.json after.json\n",
      cli_bench },
    { CLI_SIM, "sim", "simulates the scheduler on devices that are numbers",
      "-m MODEL --on SPEC [--on SPEC] (--arrivals FILE | --rate R | --search) [options]",
      "Lets requests come, be read and generate on one or many devices, by the policies that run models, under a simulated\n"
      "clock: how long requests wait for their first token and between two, and what the devices are used for. A device is\n"
      "its bandwidth, its arithmetic with many rows and with few, its memory, the seconds of a kernel launch, and where\n"
      "phases are apart the link over which a state goes; or one like a device that is there. Of the model only the shape is read.\n",
      "  eyrie sim -m synthetic:recurrentgemma-2b --on bandwidth=60G,flops=2T,memory=24G --rate 0.5 --requests 1000\n"
      "  eyrie sim -m synthetic:griffin-7b --on count=8,bandwidth=3.3T,flops=600T,decode-flops=60T,memory=80G --rate 40\n"
      "  eyrie sim -m synthetic:griffin-7b --on phase=prefill,bandwidth=1T,flops=300T,memory=48G,link=25G \\\n"
      "      --on phase=decode,count=2,bandwidth=3T,flops=60T,memory=80G,link=25G --arrivals arrivals.csv\n"
      "  eyrie sim -m models/shakespeare --on device,count=4 --search --first-token 0.5\n",
      cli_sim },
    { CLI_SELFTEST, "selftest", "checks every kernel on a device",
      "[--device SEL] [--kernel-dir DIR] [options]",
      "Runs every kernel, in all its variants and weight formats, on a few awkward shapes, and compares the results with\n"
      "plain C: a line each with the largest error and what rounding may make of it. Exit status 1 if one is wrong.\n",
      "  eyrie selftest\n"
      "  eyrie selftest --device gpu --json\n"
      "  eyrie selftest --kernel-dir my-kernels\n",
      cli_selftest },
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_general_help(void)
{
    cli_print("usage: eyrie COMMAND [options]\n\n"
              "Runs Griffin-family language models (Hawk, Griffin, RecurrentGemma, MQA Transformers) on any OpenCL\n"
              "device.\n\n"
              "Commands\n");
    for (int i = 0; i < COMMANDS; i++) cli_print("  %-8s %s\n", commands[i].name, commands[i].summary);
    cli_print("\n"
              "  eyrie COMMAND --help    its options and examples\n"
              "  eyrie --version         the version\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage, 3 slower (bench compare), 128 + n ended by signal n.\n\n"
              "Example\n"
              "  eyrie run -m models/shakespeare -p ROMEO: -n 200 --temp 0.8 --seed 1\n");
}

static const cli_command *find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static int run_command(const cli_command *command, char **args)
{
    cli_options options;
    int status = cli_options_parse(&options, command, args);

    if (status == CLI_DONE && options.help) cli_print_help(command);
    else if (status == CLI_DONE) status = command->run(&options);
    cli_options_free(&options);
    return status;
}

static int unknown(const char *name) { return cli_wrong_usage(NULL, "unknown command '%s'", name); }
static int unexpected(const char *arg) { return cli_wrong_usage(NULL, "unexpected argument '%s'", arg); }

/* eyrie help [COMMAND] */
static int help(char **args)
{
    const cli_command *command;

    if (args[0] && args[1]) return unexpected(args[1]);
    if (!args[0]) print_general_help();
    else if ((command = find(args[0])) != NULL) cli_print_help(command);
    else return unknown(args[0]);
    return CLI_DONE;
}

/* args: everything after the program's name, NULL last. */
static int dispatch(char **args)
{
    const cli_command *command;
    const char *name = args[0];

    if (!name) return cli_wrong_usage(NULL, "no command given");
    if ((command = find(name)) != NULL) return run_command(command, args + 1);
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return help(args + 1);
    if (strcmp(name, "--version") != 0) return unknown(name);
    if (args[1]) return unexpected(args[1]);
    cli_print("eyrie %s\n", eyrie_version());
    return CLI_DONE;
}

int main(int argc, char **argv)
{
    cli_open_streams();
    signal(SIGPIPE, SIG_IGN);       /* a reader that left and a file that may not grow are errors of writing */
    signal(SIGXFSZ, SIG_IGN);
    return cli_close_output(dispatch(argv + (argc > 0)));
}
