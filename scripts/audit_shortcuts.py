from training.shortcuts import main

if __name__ == "__main__":
    main()
