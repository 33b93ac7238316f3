from training.preparing import main

if __name__ == "__main__":
    main()
